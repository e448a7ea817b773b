"""Video files, and the clock of streams."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from edge_ssd.sources import open_source
from edge_ssd.sources.video import StreamClock, sane_fps
from tests.media import Pool, encoded, picture, write_video


def test_every_frame_of_a_video_in_order(tmp_path):
    path = write_video(tmp_path / "a.avi", 10, codec="MJPG", fps=25)
    with open_source(path) as source:
        assert (source.fps, source.frame_count, source.is_live, source.policy) == (25, 10, False, "every")
        frames = list(source)
    assert [frame.sequence for frame in frames] == list(range(10))
    levels = [float(np.mean(frame.image)) for frame in frames]
    assert np.abs(np.array(levels) - 4 * np.arange(10)).max() < 2  # JPEG
    assert all(frame.source == str(path) and frame.capture_ms > 0 for frame in frames)


def test_a_file_address_may_be_a_url(tmp_path):
    write_video(tmp_path / "a b.mp4", 2)
    with open_source(f"file://{tmp_path}/a%20b.mp4") as source:
        assert len(list(source)) == 2


def test_a_video_that_ends_early_gives_what_is_there_and_says_so(tmp_path, caplog):
    path = write_video(tmp_path / "a.mp4", 60)
    data = path.read_bytes()
    # The index lies at the end of an MP4; the frames before it are wiped out from the middle on.
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    middle = (start + end) // 2
    path.write_bytes(data[:middle] + bytes(end - middle) + data[end:])
    with caplog.at_level(logging.WARNING, "edge_ssd"), open_source(path) as source:
        count = len(list(source))
    assert 0 < count < 58
    assert caplog.messages == [f"{path}: ended early, after {count} of 60 frames"]


def test_a_video_without_its_end_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.mp4: neither an image nor a video"):
        open_source(path)


@pytest.mark.parametrize("name", ["a.txt", "a.mp4", "a.json", "a"])
def test_a_file_that_is_no_video_is_refused(tmp_path, name):
    (tmp_path / name).write_text("hello\n" * 100)
    with pytest.raises(ValueError, match=f"{name}: neither an image nor a video"):
        open_source(tmp_path / name)


def test_a_name_that_is_not_utf8_is_refused_before_it_ends_the_process(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    with open(path, "wb") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"caf\\udce9\.mp4: .*not UTF-8; rename it"):
        open_source(os.fsdecode(path))


@pytest.mark.parametrize(("reported", "fps"), [(30.0, 30.0), (0, 0), (-1, 0), (float("nan"), 0), (90_000, 0)])
def test_an_impossible_frame_rate_is_unknown(reported, fps):
    assert sane_fps(reported) == fps


MS = 1_000_000


def test_the_fastest_frame_of_a_stream_has_age_zero_and_others_lag_behind_it():
    clock = StreamClock()
    arrivals = [1000, 1045, 1080, 1130]  # stamped every 40 ms: 5 ms late, in time, 10 ms late
    ages = [a - clock.capture_ns(40.0 * i, a * MS) / MS for i, a in enumerate(arrivals)]
    np.testing.assert_allclose(ages, [0, 5, 0, 10], atol=0.02)


def test_frames_that_queue_up_grow_old():
    clock = StreamClock()
    # Stamped every 40 ms, but taken every 41.
    ages = [41 * i - clock.capture_ns(40.0 * i, 41 * i * MS) / MS for i in range(1000)]
    assert ages[-1] == pytest.approx(999, rel=0.01)


def test_a_camera_clock_that_is_slow_does_not_make_frames_old():
    clock = StreamClock()
    period, slow = 40.0, 1 - 50e-6
    for i in range(90_000):  # an hour; 50 parts per million would be 180 ms
        arrival = period * i
        age = arrival - clock.capture_ns(arrival * slow, int(arrival * MS)) / MS
    assert 0 <= age < 1


def test_frames_of_a_file_lie_in_the_buffers_given(tmp_path):
    path = write_video(tmp_path / "a.avi", 5, codec="MJPG")
    pool = Pool()
    with open_source(path) as plain, open_source(path, allocate=pool) as source:
        expected, frames = list(plain), list(source)
    # OpenCV's FFmpeg backend reads into the buffer: one copy of its own, whoever brings the memory.
    assert [frame.copies for frame in expected] == [1] * 5
    assert [frame.copies for frame in frames] == [2, 1, 1, 1, 1]  # the first shape is not known before
    for frame, other, buffer in zip(frames, expected, pool.buffers):
        assert frame.image is buffer
        np.testing.assert_array_equal(frame.image, other.image)


@pytest.mark.parametrize("what", ["image", "folder", "demo"])
def test_stills_and_rendered_frames_are_copied_once_into_the_buffer(tmp_path, what):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(), ".png"))
    address = {"image": path, "folder": tmp_path, "demo": "demo://?frames=1&size=64x64"}[what]
    pool = Pool()
    with open_source(address) as plain, open_source(address, allocate=pool) as source:
        (expected,), (frame,) = list(plain), list(source)
    assert (expected.copies, frame.copies) == (0, 1)
    assert frame.image is pool.buffers[0]
    np.testing.assert_array_equal(frame.image, expected.image)
