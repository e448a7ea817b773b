"""Matching of objects and default boxes, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.boxes import centre_to_corners, encode_boxes, iou_matrix  # noqa: E402
from edge_ssd.training import matching  # noqa: E402
from edge_ssd.training.matching import BACKGROUND, IGNORED, batch_iou, encode, match  # noqa: E402

pytestmark = pytest.mark.torch

# Four unit-high columns of width 0.2, side by side; their IoU with a box is easy to see.
PRIORS = torch.tensor([[0.0, 0, 0.2, 1], [0.2, 0, 0.4, 1], [0.4, 0, 0.6, 1], [0.6, 0, 0.8, 1]])


def matched(boxes, labels=None, difficult=None, priors=PRIORS):
    """`match` of one image, as a list."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    labels = torch.ones(boxes.shape[:2], dtype=torch.int64) if labels is None else torch.tensor([labels])
    difficult = (
        torch.zeros(boxes.shape[:2], dtype=torch.bool) if difficult is None else torch.tensor([difficult])
    )
    return match(boxes, labels, difficult, priors)[0].tolist()


def test_object_takes_its_best_prior_below_the_threshold():
    # IoU 0.05 / (0.05 + 0.2 - 0.05) = 0.25 with prior 1, 0 with the others.
    assert matched([[0.2, 0, 0.25, 1]]) == [BACKGROUND, 0, BACKGROUND, BACKGROUND]


def test_prior_above_the_threshold_is_matched_too():
    priors = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0.6], [0, 0, 1, 0.5], [0, 0, 1, 0.4]])
    # IoU 1 (the best), 0.6, 0.5 (not above) and 0.4.
    assert matched([[0, 0, 1, 1]], priors=priors) == [0, 0, BACKGROUND, BACKGROUND]


def test_prior_goes_to_the_object_with_the_higher_iou():
    priors = torch.tensor([[0, 0, 1, 1.0], [0, 0, 1, 0.9]])
    # Object 0 is prior 0; object 1 has IoU 0.8 with prior 0, 0.8889 with prior 1; object 0 has 0.9 with prior 1.
    assert matched([[0, 0, 1, 1], [0, 0, 1, 0.8]], priors=priors) == [0, 1]


def test_of_two_objects_that_want_one_prior_the_closer_gets_it():
    # Both are best with prior 1: IoU 0.25 and 0.5.
    assert matched([[0.2, 0, 0.25, 1], [0.2, 0, 0.3, 1]]) == [BACKGROUND, 1, BACKGROUND, BACKGROUND]


def test_equal_objects_leave_one_match():
    assert matched([[0.2, 0, 0.3, 1]] * 2) == [BACKGROUND, 0, BACKGROUND, BACKGROUND]


def test_best_prior_of_an_object_beats_a_higher_iou_of_another():
    priors = torch.tensor([[0, 0, 1, 1.0], [0, 0, 1, 0.9]])
    # Object 1 is best with prior 1 (0.5); object 0 has IoU 0.9 with it, but prior 0 is its own.
    assert matched([[0, 0, 1, 1], [0, 0.45, 1, 0.9]], priors=priors) == [0, 1]


def test_image_without_objects_is_background():
    assert matched([]) == [BACKGROUND] * 4
    assert matched([[0, 0, 0, 0]], labels=[0]) == [BACKGROUND] * 4


def test_filling_changes_nothing():
    box = [0.2, 0, 0.25, 1]
    assert matched([box, [0, 0, 0, 0]], labels=[3, 0]) == matched([box])


def test_object_outside_every_prior_is_left_out():
    assert matched([[0.9, 0, 1, 1]]) == [BACKGROUND] * 4


def test_priors_on_a_difficult_object_are_ignored_and_none_is_forced():
    assert matched([[0.2, 0, 0.35, 1]], difficult=[True]) == [BACKGROUND, IGNORED, BACKGROUND, BACKGROUND]
    assert matched([[0.2, 0, 0.25, 1]], difficult=[True]) == [BACKGROUND] * 4


def test_priors_inside_a_crowd_are_ignored_and_those_beside_it_are_background():
    # IoU with the crowd 0.2 / 0.69 for three priors that lie in it, and 0.09 / 0.8 for one with 0.45 of it inside.
    assert matched([[0, 0, 0.69, 1]], difficult=[True]) == [IGNORED] * 3 + [BACKGROUND]
    assert matched([[0, 0, 0.71, 1]], difficult=[True]) == [IGNORED] * 4  # 0.55 of it inside
    assert sorted(matched([[0, 0, 0.69, 1]], difficult=[False])) == [BACKGROUND] * 3 + [0]


def test_an_object_in_a_crowd_keeps_its_prior():
    found = matched([[0, 0, 0.8, 1], [0.2, 0, 0.25, 1]], difficult=[True, False])
    assert found == [IGNORED, 1, IGNORED, IGNORED]


def test_a_crowd_of_another_image_ignores_nothing():
    boxes = torch.tensor([[[0, 0, 0.8, 1.0]], [[0, 0, 0.8, 1.0]]])
    difficult = torch.tensor([[True], [False]])
    found = match(boxes, torch.ones(2, 1, dtype=torch.int64), difficult, PRIORS).tolist()
    assert found[0] == [IGNORED] * 4
    assert IGNORED not in found[1]


def test_difficult_object_does_not_take_the_prior_of_another():
    assert matched([[0.2, 0, 0.25, 1], [0.2, 0, 0.4, 1]], difficult=[False, True])[1] == 0


def random_scene(seed, images, objects):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 1, (images, objects, 4)).astype(np.float32)
    centre[..., 2:] = rng.uniform(0.05, 0.5, (images, objects, 2))
    return torch.from_numpy(centre_to_corners(centre))


def test_iou_equals_the_numpy_iou():
    boxes, priors = random_scene(0, 3, 5), random_scene(1, 1, 33)[0]
    for image, found in zip(boxes, batch_iou(boxes, priors)):
        np.testing.assert_allclose(found, iou_matrix(image.numpy(), priors.numpy()), atol=1e-6)


def test_pieces_of_a_batch_match_as_the_whole(monkeypatch):
    boxes, priors = random_scene(2, 7, 4), random_scene(3, 1, 50)[0]
    labels, difficult = torch.ones(7, 4, dtype=torch.int64), torch.rand(7, 4) < 0.3
    whole = match(boxes, labels, difficult, priors)
    monkeypatch.setattr(matching, "_CHUNK_PAIRS", {"cpu": 2 * 4 * 50, "gpu": 0})
    assert torch.equal(match(boxes, labels, difficult, priors), whole)
    assert (whole >= 0).any()


def test_encoding_equals_the_numpy_encoding():
    boxes = random_scene(4, 1, 20)[0]
    priors = torch.rand(20, 4) + 0.1
    expected = encode_boxes(boxes.numpy(), priors.numpy(), (0.1, 0.2))
    np.testing.assert_allclose(encode(boxes, priors, (0.1, 0.2)), expected, rtol=1e-5, atol=1e-5)


def test_near_miss_is_ignored_where_background_starts_lower():
    priors = torch.tensor([[0, 0, 1, 1.0], [0, 0, 1, 0.5], [0, 0, 1, 0.45], [0, 0, 1, 0.4]])
    box, label, easy = torch.tensor([[[0, 0, 1, 1.0]]]), torch.tensor([[1]]), torch.tensor([[False]])
    found = match(box, label, easy, priors, iou_threshold=0.5, background_iou=0.4)
    assert found[0].tolist() == [0, IGNORED, IGNORED, BACKGROUND]
