"""Views of training images: where the pixels go, the boxes go too."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge_ssd.boxes import iou_matrix
from edge_ssd.spec import InputSpec
from edge_ssd.training.augmentation import (
    AUGMENTATIONS,
    AugmentOptions,
    View,
    augment,
    distort_colors,
    move_boxes,
    random_crop,
    random_view,
    render_view,
)

STRETCH = InputSpec("image", 60, 80, "bgr", (100, 110, 120), (1, 1, 1))
NOTHING = SimpleNamespace(boxes=np.empty((0, 4), np.float32), difficult=np.empty(0, bool))
LETTERBOX = InputSpec("image", 80, 80, "bgr", (0, 0, 0), (1, 1, 1), "letterbox", (7, 8, 9))


def scene(image_size, box):
    """A black image with a white rectangle, and its truth. box: x1 y1 x2 y2, whole source pixels."""
    image = np.zeros((*image_size, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    truth = SimpleNamespace(
        boxes=np.array([box], np.float32), labels=np.array([3], np.int32), difficult=np.array([False])
    )
    return image, truth


def bounds(image):
    """x1 y1 x2 y2 of what is brighter than half, normalised."""
    rows, columns = np.nonzero(image.min(axis=2) > 127)
    height, width = image.shape[:2]
    return np.array(
        [columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]
    )


@pytest.mark.parametrize("spec", [STRETCH, LETTERBOX], ids=["stretch", "letterbox"])
@pytest.mark.parametrize("seed", range(12))
def test_box_lies_on_the_object_in_every_view(spec, seed):
    image, truth = scene((240, 400), (130, 60, 290, 180))
    options = AugmentOptions(crop=0.5, photometric=0.0)
    rng = np.random.default_rng(seed)
    model = SimpleNamespace(input=spec)
    view, boxes, kept = augment(image, truth, model, options, rng)
    assert view.shape == (*spec.size, 3)
    assert kept.tolist() == [0]
    # One pixel of the input: the rim of the rectangle is blurred by the resize.
    np.testing.assert_allclose(boxes[0], bounds(view), atol=1.01 / min(spec.size))


def test_without_augmentation_the_view_is_the_runtimes_resize():
    image = np.random.default_rng(0).integers(0, 256, (123, 97, 3), np.uint8)
    truth = NOTHING
    model = SimpleNamespace(input=STRETCH)
    view, boxes, _ = augment(image, truth, model, AUGMENTATIONS["none"], np.random.default_rng(0))
    np.testing.assert_array_equal(view, cv2.resize(image, (80, 60), interpolation=cv2.INTER_LINEAR))
    assert boxes.shape == (0, 4)


def test_blur_leaves_the_object_in_its_place():
    image, truth = scene((240, 400), (130, 60, 290, 180))
    model, rng = SimpleNamespace(input=STRETCH), np.random.default_rng(0)
    still = AugmentOptions(crop=0.0, zoom_out=0.0, flip=0.0, photometric=0.0)
    sharp, _, _ = augment(image, truth, model, still, rng)
    blurred, boxes, _ = augment(image, truth, model, replace(still, blur=1.0), rng)
    np.testing.assert_allclose(boxes[0], bounds(blurred), atol=1.01 / min(STRETCH.size))
    gradients = [np.abs(np.diff(view.astype(int), axis=1)).max() for view in (sharp, blurred)]
    assert gradients[1] < 0.9 * gradients[0]


def test_colours_come_in_the_order_of_the_spec():
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 0] = 200  # blue
    truth = NOTHING
    rgb = InputSpec("image", 60, 80, "rgb", (0, 0, 0), (1, 1, 1))
    view, _, _ = augment(
        image, truth, SimpleNamespace(input=rgb), AUGMENTATIONS["none"], np.random.default_rng(0)
    )
    assert view[0, 0].tolist() == [0, 0, 200]


def test_same_random_numbers_give_the_same_view():
    image, truth = scene((240, 400), (130, 60, 290, 180))
    model = SimpleNamespace(input=STRETCH)
    first, second = (
        augment(image, truth, model, AUGMENTATIONS["ssd"], np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ([10, 10, 30, 30], True),
        ([0, 0, 18, 18], False),  # its centre, 9, is outside
        ([0, 0, 22, 22], True),  # its centre, 11, is inside
        ([50, 50, 60, 60], False),
    ],
)
def test_object_stays_when_its_centre_is_in_the_crop(box, kept):
    _, indices = move_boxes(np.array([box]), View((10, 10, 50, 50), (0, 0, 80, 60)), (60, 80))
    assert (indices.tolist() == [0]) is kept


def test_what_is_left_of_a_crowd_stays_and_of_an_object_does_not():
    image, truth = np.zeros((60, 80, 3), np.uint8), scene((60, 80), (0, 0, 80, 60))[1]
    crops = AugmentOptions(crop=1, crop_scale=0.3, zoom_out=0, flip=0, photometric=0)
    truth.boxes = np.array([[0, 0, 80, 60], [0, 0, 80, 60], [30, 25, 34, 28]], np.float32)
    truth.difficult, model = np.array([True, False, False]), SimpleNamespace(input=STRETCH)
    # The centre of all is (40, 30); crops follow any of them, or only the third, which lies beside it.
    kept = [augment(image, truth, model, crops, np.random.default_rng(seed)) for seed in range(200)]
    assert all(0 in indices for _, _, indices in kept)
    assert any(1 not in indices for _, _, indices in kept)
    for _, boxes, indices in kept:
        np.testing.assert_allclose(boxes[indices == 0], [[0, 0, 1, 1]], rtol=1e-6)
    _, none = move_boxes(
        np.array([[50, 50, 60, 60]]), View((10, 10, 50, 50), (0, 0, 80, 60)), (60, 80), [True]
    )
    assert none.tolist() == []


def test_box_is_cut_at_the_crop_and_scaled_to_its_place():
    boxes, _ = move_boxes(np.array([[0, 20, 30, 30]]), View((10, 10, 50, 50), (40, 30, 80, 60)), (60, 80))
    # x: (10..30 - 10) / 40 of 40 px from 40 on: 40..60 of 80; y: (20..30 - 10) / 40 of 30 px from 30 on: 37.5..45 of 60
    np.testing.assert_allclose(boxes, [[0.5, 0.625, 0.75, 0.75]])


def test_free_space_has_the_mean_when_zoomed_out_and_the_padding_in_a_letterbox():
    image = np.full((10, 10, 3), 255, np.uint8)
    view = View((0, 0, 10, 10), (30, 20, 50, 40))
    assert render_view(image, view, STRETCH)[0, 0].tolist() == [100, 110, 120]
    assert render_view(image, view, LETTERBOX)[0, 0].tolist() == [7, 8, 9]


def test_crop_overlaps_an_object_as_much_as_it_has_to():
    boxes = np.array([[100, 100, 200, 180]], np.float32)
    crops = [random_crop((240, 320), boxes, 0.3, np.random.default_rng(seed)) for seed in range(200)]
    for x1, y1, x2, y2 in crops:
        assert 0 <= x1 < x2 <= 320
        assert 0 <= y1 < y2 <= 240
        assert x1 < 150 < x2
        assert y1 < 140 < y2
    overlaps = np.array([iou_matrix(np.array([crop], np.float32), boxes)[0, 0] for crop in crops])
    assert (overlaps > 0.3).mean() > 0.2


def test_a_small_object_gets_a_crop_whatever_overlap_is_drawn():
    # A twentieth of the image's sides: no crop of 0.3 of them or more overlaps it by 0.1.
    boxes = np.array([[100, 100, 116, 112]], np.float32)
    crops = [random_crop((240, 320), boxes, 0.3, np.random.default_rng(seed)) for seed in range(500)]
    assert sum(crop == (0, 0, 320, 240) for crop in crops) < 10


def test_a_large_object_is_not_always_cropped_by_the_same_overlap():
    # An object that fills its image: a tenth of all crops hold 0.7 of it, and two of the six overlaps ask for that.
    boxes = np.array([[0, 0, 320, 240]], np.float32)
    crops = [random_crop((240, 320), boxes, 0.3, np.random.default_rng(seed)) for seed in range(500)]
    shares = np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in crops]) / (320 * 240)
    assert 0.2 < (shares >= 0.7).mean() < 0.6


def test_crop_of_an_image_without_objects_is_any_crop():
    crops = {
        random_crop((240, 320), np.empty((0, 4), np.float32), 0.3, np.random.default_rng(s))
        for s in range(20)
    }
    assert len(crops) > 10


def test_tiny_images_have_views():
    options = AugmentOptions(crop=1.0, zoom_out=0.5)
    for seed in range(20):
        view = random_view(
            (1, 3), np.empty((0, 4), np.float32), STRETCH, options, np.random.default_rng(seed)
        )
        assert view.crop[2] > view.crop[0]
        assert view.place[3] > view.place[1]


def test_zoom_out_keeps_the_image_inside_the_input():
    options = AugmentOptions(zoom_out=1.0)
    places = [
        random_view((240, 320), np.empty((0, 4)), STRETCH, options, np.random.default_rng(seed)).place
        for seed in range(50)
    ]
    for x1, y1, x2, y2 in places:
        assert 0 <= x1 < x2 <= 80
        assert 0 <= y1 < y2 <= 60
    assert min(x2 - x1 for x1, _, x2, _ in places) < 30  # 80 / 4 = 20 is the least


def views_of(boxes, image_size, options, count, spec=STRETCH):
    """Boxes (M, 4), indices of each of so many views, the boxes in pixels of an input of 640 x 360."""
    truth = SimpleNamespace(
        boxes=np.array(boxes, np.float32).reshape(-1, 4), difficult=np.zeros(len(boxes), bool)
    )
    image, model = np.zeros((*image_size, 3), np.uint8), SimpleNamespace(input=spec)
    for seed in range(count):
        _, found, kept = augment(image, truth, model, options, np.random.default_rng(seed))
        yield found * np.tile((640, 360), 2), kept.tolist()


TURNED = AugmentOptions(crop=0, zoom_out=0, flip=0, turn=1, photometric=0)


@pytest.mark.parametrize("image_size", [(360, 640), (640, 360), (300, 300)])
def test_a_turned_frame_shows_things_in_the_shape_that_they_have_at_run_time(image_size):
    height, width = image_size
    usual = (640 / width) / (360 / height)  # of a square object, stretched to the input
    ratios, scales = [], set()
    for boxes, kept in views_of([[200, 150, 260, 210]], image_size, TURNED, 60):
        assert kept == [0]
        w, h = boxes[0, 2:] - boxes[0, :2]
        ratios.append(w / h)
        scales.add(round(float(w * width / 640 / 60), 1))
    np.testing.assert_allclose(ratios, usual, rtol=0.01)  # a part has whole pixels
    # A quarter turn of 16 : 9 shows 9 / 16 of the shorter side's length: things are so much larger.
    assert scales == ({1.0} if height == width else {1.0, 1.8})


def test_a_quarter_turn_keeps_a_whole_object_and_drops_those_outside_its_part():
    # 203 of 640 columns are shown: never both, and each at times.
    counts = [kept for _, kept in views_of([[20, 10, 80, 70], [500, 10, 560, 70]], (360, 640), TURNED, 60)]
    assert {tuple(kept) for kept in counts} == {(0, 1), (0,), (1,)}


def test_an_object_that_no_quarter_turn_can_show_whole_is_turned_by_half():
    for boxes, kept in views_of([[100, 50, 400, 300]], (360, 640), TURNED, 30):
        assert kept == [0]
        np.testing.assert_allclose(boxes[0], [240, 60, 540, 310], atol=1e-3)


def test_a_turned_image_without_objects_is_any_part_of_it():
    image = np.zeros((36, 64, 3), np.uint8)
    image[..., 0] = np.arange(64) * 4
    truth, model = NOTHING, SimpleNamespace(input=STRETCH)
    means = {
        round(augment(image, truth, model, TURNED, np.random.default_rng(seed))[0][..., 0].mean())
        for seed in range(40)
    }
    assert len(means) > 10


def test_named_augmentations_do_what_they_are_for():
    boxes = [[300, 170, 340, 190]]  # 40 x 20 in the middle
    widths = {
        name: np.array(
            [
                found[0, 2] - found[0, 0]
                for found, kept in views_of(boxes, (360, 640), AUGMENTATIONS[name], 300)
                if kept
            ]
        )
        for name in ("none", "light", "ssd", "floor")
    }
    np.testing.assert_allclose(widths["none"], 40)
    # Zoomed out by up to 2 or 4, cropped to as little as 0.6, 0.5 or 0.3.
    assert 19 < widths["light"].min() < 25
    assert 10 <= widths["ssd"].min() < 15
    assert 55 < widths["light"].max() < 68
    assert widths["ssd"].max() > 100
    light, ssd, floor = (AUGMENTATIONS[name] for name in ("light", "ssd", "floor"))
    assert (light.turn, light.paste, light.blur) == (ssd.turn, ssd.paste, ssd.blur) == (0, 0, 0)
    assert min(floor.turn, floor.paste, floor.blur) > 0
    assert (widths["floor"] < 0.45 * 40).any() or widths["floor"].max() > 68  # 1.78 by a turn alone


def test_colour_noise_changes_the_image_and_leaves_the_original():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    before = image.copy()
    changed = [distort_colors(image, 1.0, np.random.default_rng(seed)) for seed in range(20)]
    np.testing.assert_array_equal(image, before)
    assert sum(not np.array_equal(other, before) for other in changed) > 10
    assert all(other.dtype == np.uint8 and other.shape == image.shape for other in changed)
