"""The rendered camera: its truth is exact, its frames are reproducible, its addresses are checked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from edge_ssd.boxes import iou_matrix
from edge_ssd.sources.demo import CLASS_NAMES, DemoOptions, DemoStream

SMALL = DemoOptions(seed=5, image_size=(240, 320), scene_frames=4)


def _digest(indices, options=SMALL):
    stream = DemoStream(options)
    digest = hashlib.sha256()
    for index in indices:
        frame = stream.render(index)
        for array in (frame.image, frame.boxes, frame.labels, frame.difficult):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def many_frames():
    """One frame of each of 250 scenes."""
    stream = DemoStream(DemoOptions(seed=1000, image_size=(240, 320), scene_frames=1, frames=250))
    return list(stream)


def test_a_frame_has_the_documented_shapes_and_dtypes():
    frame = DemoStream(SMALL).render(3)
    count = len(frame.boxes)
    assert frame.image.shape == (240, 320, 3)
    assert frame.image.dtype == np.uint8
    assert frame.boxes.shape == (count, 4)
    assert frame.boxes.dtype == np.float32
    assert frame.labels.shape == frame.difficult.shape == (count,)
    assert frame.labels.dtype == np.int32
    assert frame.difficult.dtype == bool


def test_frames_do_not_depend_on_the_order_of_access():
    stream = DemoStream(SMALL)
    forward = [stream.render(i).image for i in range(10)]
    for i in (9, 0, 5, 4, 8, 0):
        np.testing.assert_array_equal(stream.render(i).image, forward[i])


def test_another_process_renders_the_same_bytes():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import cv2, hashlib\n"
        "from edge_ssd.sources.demo import DemoOptions, DemoStream\n"
        "cv2.setNumThreads(1)\n"  # the bytes must not depend on it
        "stream = DemoStream(DemoOptions(seed=5, image_size=(240, 320), scene_frames=4))\n"
        "print(*(hashlib.sha256(stream.render(i).image.tobytes()).hexdigest() for i in (1000, 9, 0)))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).resolve().parents[3])]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    stream = DemoStream(SMALL)
    assert there == [hashlib.sha256(stream.render(i).image.tobytes()).hexdigest() for i in (1000, 9, 0)]


def test_writing_into_a_frame_does_not_change_the_next_one():
    stream = DemoStream(SMALL)
    before = stream.render(0).image.copy()
    stream.render(0).image[:] = 0
    np.testing.assert_array_equal(stream.render(0).image, before)


def test_seeds_scenes_and_frames_differ():
    digests = [_digest([i]) for i in (0, 1, 4)] + [
        _digest([0], DemoOptions(6, 0, (240, 320), scene_frames=4))
    ]
    assert len(set(digests)) == 4


def test_the_frame_rate_does_not_change_the_pixels():
    slow, fast = (
        DemoOptions(seed=5, fps=5, image_size=(240, 320)),
        DemoOptions(seed=5, fps=60, image_size=(240, 320)),
    )
    assert _digest([7], slow) == _digest([7], fast)


def test_a_finite_stream_ends_and_has_a_length():
    stream = DemoStream(DemoOptions(frames=3, image_size=(64, 96)))
    assert len(stream) == len(list(stream)) == 3
    with pytest.raises(IndexError, match="frame 3: expected 0 to 2"):
        stream.render(3)
    with pytest.raises(IndexError):
        stream.render(-1)


def test_an_endless_stream_goes_on_and_has_no_length():
    stream = DemoStream(DemoOptions(image_size=(64, 96), scene_frames=2))
    assert len(list(islice(stream, 7))) == 7
    with pytest.raises(TypeError, match="endless"):
        len(stream)


def test_boxes_lie_in_the_image_and_are_not_empty(many_frames):
    for frame in many_frames:
        assert (frame.boxes[:, :2] >= 0).all()
        assert (frame.boxes[:, 2:] <= (320, 240)).all()
        assert (frame.boxes[:, 2:] > frame.boxes[:, :2]).all()


def test_every_class_and_1_to_12_objects_occur(many_frames):
    counts = [len(frame.labels) for frame in many_frames]
    labels = np.concatenate([frame.labels for frame in many_frames])
    assert min(counts) >= 1
    assert max(counts) in (11, 12)
    share = np.bincount(labels, minlength=len(CLASS_NAMES)) / len(labels)
    assert share.min() > 0.5 / len(CLASS_NAMES)


def test_sizes_are_log_uniform_from_5_to_80_percent(many_frames):
    sides = []
    for frame in many_frames:
        inside = ((frame.boxes[:, :2] > 0) & (frame.boxes[:, 2:] < (320, 240))).all(axis=1)
        sides.extend((frame.boxes[inside, 2:] - frame.boxes[inside, :2]).min(axis=1) / 240)
    sides = np.array(sides)
    assert sides.min() >= 0.05 - 1e-4
    assert sides.max() <= 0.80 + 1e-4
    quarters = np.histogram(np.log(sides), np.log([0.05, 0.1, 0.2, 0.4, 0.8]))[0] / len(sides)
    # A quarter each; fewer of the large ones, which the frame's edge cuts more often.
    assert (quarters > 0.12).all()


def test_at_least_30_percent_of_the_scenes_have_overlapping_objects(many_frames):
    overlaps = 0
    for frame in many_frames:
        iou = iou_matrix(frame.boxes, frame.boxes)
        np.fill_diagonal(iou, 0)
        overlaps += iou.max() > 0.1
    assert overlaps >= 0.3 * len(many_frames)


def test_some_objects_are_difficult_but_few(many_frames):
    difficult = np.concatenate([frame.difficult for frame in many_frames])
    assert 0.002 < difficult.mean() < 0.1


def test_an_address_without_parameters_has_the_defaults():
    assert DemoOptions.from_uri("demo://") == DemoOptions()
    assert DemoOptions() == DemoOptions(0, 0, (480, 640), 30.0, 25)


def test_an_address_sets_every_option():
    options = DemoOptions.from_uri("demo://?seed=7&frames=500&size=320x240&fps=12.5&scene=10")
    assert options == DemoOptions(7, 500, (240, 320), 12.5, 10)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("demo://?sed=1", "unknown parameter 'sed'; known: seed, frames, size, fps, scene"),
        ("demo://?seed=x", "seed: expected a whole number, got 'x'"),
        ("demo://?seed=", "seed: expected a whole number, got ''"),
        ("demo://?seed=-1", "seed: expected a whole number of at least 0, got -1"),
        ("demo://?frames=-5", "frames: expected a whole number of at least 0"),
        ("demo://?size=640", "size: expected WIDTHxHEIGHT"),
        ("demo://?size=0x480", "size: expected WIDTHxHEIGHT, each from 64 to 8192, got 0x480"),
        ("demo://?fps=0", "fps: expected a number above 0"),
        ("demo://?fps=nan", "fps: expected a number above 0"),
        ("demo://?scene=0", "scene: expected a whole number of at least 1"),
        ("demo://?seed=1&seed=2", "seed: given twice"),
        ("demo://seed=1", "expected demo://?name=value"),
        ("demo:///folder", "expected demo://?name=value"),
    ],
)
def test_a_wrong_address_is_refused_by_the_parameters_name(uri, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        DemoOptions.from_uri(uri)
    assert message in str(error.value)
    assert uri in str(error.value)
