"""Objects of other images in an image: where they lie, what is left out, and that the floor stays behind."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge_ssd.boxes import iou_matrix
from edge_ssd.datasets import Truth
from edge_ssd.training.augmentation import AugmentOptions, augment, turn
from edge_ssd.training.paste import MOST, ObjectPaster, cut_out, put, whole_objects

GREEN, RED = (0, 200, 0), (0, 0, 200)


def truth(boxes, labels=None, difficult=None, image_size=(120, 160)):
    count = len(boxes)
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels or [0] * count, np.int32),
        np.array(difficult or [False] * count, bool),
        image_size,
    )


class Floors:
    """Images of one colour, each with a red ellipse that fills the box of its one object."""

    def __init__(self, boxes, **fields):
        self.truths = [truth([box], **fields) for box in boxes]

    def __len__(self):
        return len(self.truths)

    def truth(self, index):
        return self.truths[index]

    def image(self, index):
        image = np.full((120, 160, 3), 120 + 10 * index, np.uint8)
        x1, y1, x2, y2 = self.truths[index].boxes[0].astype(int)
        centre, radii = ((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2), ((x2 - x1) / 2, (y2 - y1) / 2)
        y, x = np.mgrid[:120, :160]
        inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1
        image[inside] = RED
        return image


def red_bounds(image):
    """x1 y1 x2 y2 of what is rather red than anything else."""
    rows, columns = np.nonzero(image[..., 2].astype(int) - image[..., 1] > 60)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("seed", range(12))
def test_box_lies_on_the_pasted_object(seed):
    paster = ObjectPaster(Floors([(40, 30, 90, 60)]))
    green = np.full((120, 160, 3), GREEN, np.uint8)
    image, found = paster.paste(green, truth([]), np.random.default_rng(seed))
    assert 1 <= len(found.boxes) <= MOST
    expected = np.array([*found.boxes[:, :2].min(axis=0), *found.boxes[:, 2:].max(axis=0)])
    np.testing.assert_allclose(red_bounds(image), expected, atol=2)  # the rim of a mask is soft
    assert (green == GREEN).all()  # the input is not written to


def test_objects_come_at_many_angles_under_many_lights():
    class Bars(Floors):
        """The one object is a red bar, 60 x 6 pixels, along x."""

        def image(self, index):
            image = np.full((120, 160, 3), 120, np.uint8)
            image[57:63, 50:110] = RED
            return image

    paster, slopes, reds = ObjectPaster(Bars([(50, 57, 110, 63)])), [], []
    for seed in range(30):
        image, found = paster.paste(
            np.full((120, 160, 3), GREEN, np.uint8), truth([]), np.random.default_rng(seed)
        )
        for x1, y1, x2, y2 in found.boxes:
            slopes.append(np.degrees(np.arctan2(y2 - y1, x2 - x1)))
            reds.append(image[int(y1) : int(y2), int(x1) : int(x2), 2].max())
    assert np.histogram(slopes, bins=[0, 20, 35, 55, 70, 90])[0].min() > 0
    assert np.ptp(reds) > 60


def test_an_object_that_its_mask_does_not_tell_is_only_turned_by_quarters():
    class Camouflaged(Floors):
        """Only a corner of the object differs from the floor."""

        def image(self, index):
            image = np.full((120, 160, 3), 120, np.uint8)
            image[30:40, 40:55] = RED
            return image

    paster, sizes = ObjectPaster(Camouflaged([(40, 30, 90, 60)])), []
    for seed in range(20):
        _, found = paster.paste(
            np.full((120, 160, 3), GREEN, np.uint8), truth([]), np.random.default_rng(seed)
        )
        sizes.extend(found.boxes[:, 2:] - found.boxes[:, :2])
    ratios = np.divide(*np.sort(sizes, axis=1).T)
    np.testing.assert_allclose(ratios, 30 / 50, atol=0.05)


def test_what_lies_around_an_object_stays_behind():
    floors = Floors([(40, 30, 90, 60)])
    cutout = cut_out(floors.image(0), floors.truth(0).boxes[0])
    image = np.full((120, 160, 3), GREEN, np.uint8)
    x1, y1, x2, y2 = put(image, cutout, (5, 5)).astype(int)
    np.testing.assert_allclose(image[(y1 + y2) // 2, (x1 + x2) // 2], RED, atol=2)
    np.testing.assert_allclose(image[y1 + 1, x1 + 1], GREEN, atol=2)  # beside the ellipse, in its box
    whole = cut_out(floors.image(0), floors.truth(0).boxes[0], whole=True)
    put(image, whole, (5, 5))
    np.testing.assert_allclose(image[y1 + 1, x1 + 1], (120, 120, 120), atol=2)


def test_pasted_objects_cover_no_others():
    paster = ObjectPaster(Floors([(40, 30, 90, 60), (10, 10, 40, 50)]))
    there = truth([(20, 20, 80, 100)], [5], [True])
    for seed in range(20):
        _, found = paster.paste(np.zeros((120, 160, 3), np.uint8), there, np.random.default_rng(seed))
        np.testing.assert_array_equal(found.boxes[0], there.boxes[0])
        assert (found.labels[0], found.difficult[0]) == (5, True)
        assert not found.difficult[1:].any()
        assert (found.boxes[:, :2] >= 0).all()
        assert (found.boxes[:, 2:] <= (160, 120)).all()
        # A twentieth of the smaller of two boxes at most, so less than that of their union.
        assert (np.triu(iou_matrix(found.boxes, found.boxes), 1) < 0.05).all()


def test_objects_that_are_cut_off_or_difficult_are_left_where_they_are():
    at_the_edge = Floors([(0, 30, 50, 60), (110, 30, 160, 60), (40, 90, 90, 120)])
    assert whole_objects(at_the_edge) == []
    assert whole_objects(Floors([(40, 30, 90, 60)], difficult=[True])) == []
    image = np.zeros((120, 160, 3), np.uint8)
    found, there = ObjectPaster(at_the_edge).paste(image, truth([]), np.random.default_rng(0))
    np.testing.assert_array_equal(found, image)
    assert there.boxes.shape == (0, 4)


def test_each_class_comes_as_often_as_any_other():
    floors = Floors([(40, 30, 90, 60)] * 10)
    floors.truths[0] = truth([(40, 30, 90, 60)], [1])
    paster, rng, counts = ObjectPaster(floors), np.random.default_rng(0), np.zeros(2, int)
    for _ in range(100):
        _, found = paster.paste(np.zeros((120, 160, 3), np.uint8), truth([]), rng)
        counts += np.bincount(found.labels, minlength=2)
    assert counts.min() > 0.7 * counts.max()  # 1 of 10 images has class 1


def test_turned_box_lies_on_the_turned_object():
    floors = Floors([(40, 30, 90, 60)])
    for quarters in (1, 2, 3):
        image, boxes = turn(floors.image(0), floors.truth(0).boxes, quarters)
        assert image.shape == ((120, 160, 3) if quarters == 2 else (160, 120, 3))
        np.testing.assert_array_equal(red_bounds(image), boxes[0])


def test_views_are_turned():
    floors, rng = Floors([(40, 30, 90, 60)]), np.random.default_rng(0)
    spec = SimpleNamespace(
        input=SimpleNamespace(size=(96, 96), resize="letterbox", pad_value=(0, 0, 0), color="bgr")
    )
    spec.input.height = spec.input.width = 96
    options = AugmentOptions(crop=0, zoom_out=0, flip=0, turn=1, photometric=0)
    directions = set()
    for _ in range(20):
        image, boxes, kept = augment(floors.image(0), floors.truth(0), spec, options, rng)
        np.testing.assert_allclose(boxes[0] * 96, red_bounds(image), atol=1.01)
        directions.add(tuple(np.round(boxes[0], 2).tolist()))
        assert kept.tolist() == [0]
    assert len(directions) == 3


def test_an_object_that_fills_its_image_is_pasted_as_it_is():
    class CloseUps(Floors):
        """The object leaves a rim of 2 pixels, less than one of its mask."""

        def image(self, index):
            return np.full((120, 160, 3), RED, np.uint8)

    paster = ObjectPaster(CloseUps([(2, 2, 158, 118)]))
    image, found = paster.paste(np.full((120, 160, 3), GREEN, np.uint8), truth([]), np.random.default_rng(0))
    x1, y1, x2, y2 = found.boxes[0].astype(int)
    blue, green, red = image[(y1 + y2) // 2, (x1 + x2) // 2].astype(int)
    assert red > 80
    assert max(blue, green) < 20


def test_mask_of_a_large_object_is_made_small_and_still_fits():
    image = np.full((600, 800, 3), 128, np.uint8)
    cv2.rectangle(image, (200, 150), (599, 449), RED, -1)
    cutout = cut_out(image, np.array([200, 150, 600, 450], np.float32))
    x1, y1, x2, y2 = (int(v) for v in cutout.box)
    assert cutout.alpha.shape == cutout.pixels.shape[:2]
    # A pixel of the mask is 8 of the image, and its rim is blurred over three.
    assert cutout.alpha[y1 + 24 : y2 - 24, x1 + 24 : x2 - 24].min() > 0.95
    assert cutout.alpha[: y1 - 24].max() < 0.05
