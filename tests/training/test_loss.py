"""The training objective, with numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.boxes import encode_boxes  # noqa: E402
from edge_ssd.spec import InputSpec, OutputSpec, PostprocessSpec, PriorLevel, PriorSpec, SsdSpec  # noqa: E402
from edge_ssd.training.data import Targets  # noqa: E402
from edge_ssd.training.loss import SsdLoss, hard_negatives  # noqa: E402

pytestmark = pytest.mark.torch

# Ten columns of an input of 100 x 10, one default box of 10 x 10 each: cx = 0.05, 0.15, ...
SPEC = SsdSpec(
    name="row",
    input=InputSpec("image", 10, 100, "rgb", (0, 0, 0), (1, 1, 1)),
    outputs=OutputSpec("loc", "conf"),
    class_names=("a", "b"),
    background_index=0,
    score_activation="softmax",
    loc_order="cxcywh",
    variance=(0.1, 0.2),
    priors=PriorSpec((PriorLevel((1, 10), (10, 10), ((10, 10),)),)),
    postprocess=PostprocessSpec(0.01, 0.5, 10, 10),
)
ON_PRIOR_2 = [0.2, 0, 0.3, 1]


def targets(*images):
    """Targets of images given as lists of (box, label)."""
    count = max(map(len, images))
    boxes = [[box for box, _ in image] + [[0, 0, 0, 0]] * (count - len(image)) for image in images]
    labels = [[label for _, label in image] + [0] * (count - len(image)) for image in images]
    shape = (len(images), count)
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(*shape, 4),
        torch.tensor(labels, dtype=torch.int64).reshape(shape),
        torch.zeros(shape, dtype=torch.bool),
    )


def zeros(images):
    return torch.zeros(images, 10, 4), torch.zeros(images, 10, 3)


def test_undecided_network_pays_log_3_for_one_match_and_three_negatives():
    losses = SsdLoss(SPEC)(*zeros(1), targets([(ON_PRIOR_2, 1)]))
    assert losses.matches == 1
    assert losses.loc.item() == pytest.approx(0, abs=1e-5)
    assert losses.conf.item() == pytest.approx(4 * math.log(3))


def test_offsets_are_compared_with_the_encoded_box_by_smooth_l1():
    box = [0.21, 0, 0.31, 1]  # 0.01 to the right of prior 2, of width 0.1: encoded 0.01 / (0.1 * 0.1) = 1
    loc, conf = zeros(1)
    loc[0, 2] = torch.tensor([1.5, 0, 0, 3])  # off by 0.5 -> 0.125 and by 3 -> 2.5
    assert SsdLoss(SPEC)(loc, conf, targets([(box, 1)])).loc.item() == pytest.approx(2.625, rel=1e-4)


def test_encoded_box_costs_nothing_and_its_neighbours_do_not_matter():
    box = np.array([[0.22, 0.1, 0.31, 0.8]], np.float32)
    prior = np.array([[0.25, 0.5, 0.1, 1]], np.float32)
    loc, conf = zeros(1)
    loc += 7
    loc[0, 2] = torch.from_numpy(encode_boxes(box, prior, SPEC.variance))[0]
    assert SsdLoss(SPEC)(loc, conf, targets([(box[0].tolist(), 2)])).loc.item() == pytest.approx(0, abs=1e-8)


def test_loss_is_divided_by_the_matches_of_the_whole_batch():
    one = SsdLoss(SPEC)(*zeros(1), targets([(ON_PRIOR_2, 1)]))
    three = SsdLoss(SPEC)(*zeros(2), targets([(ON_PRIOR_2, 1), ([0.5, 0, 0.6, 1], 2)], [(ON_PRIOR_2, 2)]))
    assert three.matches == 3
    assert three.conf.item() == pytest.approx(one.conf.item())


def test_image_without_objects_adds_the_negatives_of_one_match():
    beside = SsdLoss(SPEC)(*zeros(2), targets([(ON_PRIOR_2, 1)], []))
    assert beside.matches == 1
    assert beside.conf.item() == pytest.approx((4 + 3) * math.log(3))
    fewer = SsdLoss(SPEC, negatives_per_match=2)(*zeros(2), targets([(ON_PRIOR_2, 1)], []))
    assert fewer.conf.item() == pytest.approx((3 + 2) * math.log(3))


def test_false_alarms_in_an_image_without_objects_have_a_gradient():
    loc, conf = (output.requires_grad_() for output in zeros(2))
    with torch.no_grad():
        conf[1, 4:6, 1] = 8.0
    losses = SsdLoss(SPEC)(loc, conf, targets([(ON_PRIOR_2, 1)], []))
    (losses.loc + losses.conf).backward()
    assert (conf.grad[1, 4:6, 1] > 0.99).all()
    assert (loc.grad[1] == 0).all()


@pytest.mark.parametrize("images", [([],), ([], [])], ids=["one image", "two images"])
def test_batch_without_objects_costs_its_negatives_and_no_offsets(images):
    loc, conf = (output.requires_grad_() for output in zeros(len(images)))
    losses = SsdLoss(SPEC)(loc, conf, targets(*images))
    (losses.loc + losses.conf).backward()
    assert (losses.loc.item(), losses.matches) == (0, 0)
    assert losses.conf.item() == pytest.approx(3 * len(images) * math.log(3))  # divided by 1
    assert (loc.grad == 0).all()  # there is one: processes that share a batch wait for it


def test_parts_of_a_batch_with_an_empty_image_make_the_loss_of_the_whole():
    parts = [targets([(ON_PRIOR_2, 1)]), targets([])]
    whole = SsdLoss(SPEC)(*zeros(2), targets([(ON_PRIOR_2, 1)], []))
    shared = SsdLoss(SPEC, mean_matches=lambda _: 0.5)  # 1 match over 2 processes
    found = [shared(*zeros(1), part).conf.item() for part in parts]
    assert sum(found) / 2 == pytest.approx(whole.conf.item())


def test_near_miss_is_a_negative_for_the_paper_and_none_where_background_starts_lower():
    box = [0.15, 0, 0.3, 1]  # IoU 0.1 / 0.15 with prior 2, 0.05 / 0.2 = 0.25 with prior 1
    loc, conf = zeros(1)
    conf[0, 1, 1] = 5.0  # the hardest of all negatives, if it is one
    price = math.log(2 + math.exp(5))
    paper, wider = (SsdLoss(SPEC, background_iou=iou)(loc, conf, targets([(box, 1)])) for iou in (0.5, 0.2))
    assert paper.conf.item() == pytest.approx(3 * math.log(3) + price, rel=1e-5)
    assert wider.conf.item() == pytest.approx(4 * math.log(3), rel=1e-5)


def test_hard_negatives_are_those_that_look_least_like_background():
    conf = torch.zeros(1, 10, 3)
    conf[0, :, 0] = torch.arange(10.0)  # prior 0 looks least like background, then 1, ...
    matched = torch.full((1, 10), -1)
    matched[0, 1] = 0
    image, prior = hard_negatives(conf, matched, 3)
    assert image.tolist() == [0, 0, 0]
    assert prior.tolist() == [0, 2, 3]


def test_hard_negatives_are_counted_for_each_image():
    matched = torch.full((3, 10), -1)
    matched[0, :2] = 0
    matched[2, :4] = 0
    image, prior = hard_negatives(torch.zeros(3, 10, 3), matched, 3)
    # 2 matches -> 6; none -> 3, as one; 4 matches would want 12, and 6 priors are left.
    assert torch.bincount(image, minlength=3).tolist() == [6, 3, 6]
    assert (matched[image, prior] == -1).all()


def test_ignored_priors_are_no_negatives():
    matched = torch.tensor([[0, -2, -1, -1, -1, -1, -2, -2, -2, -2]])
    _, prior = hard_negatives(torch.zeros(1, 10, 3), matched, 9)
    assert sorted(prior.tolist()) == [2, 3, 4, 5]


def test_only_matches_and_hard_negatives_have_a_gradient():
    loc, conf = (output.requires_grad_() for output in zeros(1))
    losses = SsdLoss(SPEC)(loc, conf, targets([(ON_PRIOR_2, 1)]))
    (losses.loc + losses.conf).backward()
    assert int((conf.grad.abs().sum(dim=2) > 0).sum()) == 4
    # Softmax less one-hot: the matched prior's own column 1/3 - 1.
    assert conf.grad[0, 2].tolist() == pytest.approx([1 / 3, -2 / 3, 1 / 3])
