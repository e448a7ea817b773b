"""Annotated videos: size, speed, and a file that can be played whatever happens."""

from __future__ import annotations

import resource
import shutil
from collections import namedtuple

import cv2
import numpy as np
import pytest

from edge_ssd.sinks import open_sink
from edge_ssd.sinks.video import _fitted
from tests.results import result

MS = 1_000_000


def grey(level, size=(48, 64)):
    return np.full((*size, 3), level, np.uint8)


def frames_of(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (grabbed := capture.read())[0]:
        frames.append(grabbed[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def recorded(path, images, times_ms=None, fps=30.0, is_live=False):
    """The frames of the video that a sink makes of `images`."""
    sink = open_sink(str(path), fps, is_live)
    for i, image in enumerate(images):
        time_ms = times_ms[i] if times_ms else 1000 * i / fps
        sink.write(result(image, (), timestamp_ns=int(time_ms * MS)))
    sink.close()
    return frames_of(path)[0]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_every_suffix_gives_a_video_of_every_frame(tmp_path, suffix):
    frames = recorded(tmp_path / f"a{suffix}", [grey(20 * i) for i in range(10)])
    assert len(frames) == 10
    np.testing.assert_allclose([f.mean() for f in frames], [20 * i for i in range(10)], atol=4)


@pytest.mark.parametrize("fps", [0.5, 7.5, 23.976023976, 24.8756219, 29.97002997, 240.0])
def test_any_frame_rate(tmp_path, fps):
    sink = open_sink(str(tmp_path / "a.mp4"), fps)
    sink.write(result())
    sink.close()
    assert frames_of(tmp_path / "a.mp4")[1] == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize(("size", "even"), [((1, 1), (2, 2)), ((49, 65), (48, 64)), ((2, 3), (2, 2))])
def test_odd_sizes_are_made_even(tmp_path, size, even):
    (frame,) = recorded(tmp_path / "a.mp4", [grey(200, size)])
    assert frame.shape[:2] == even


def test_an_odd_row_and_column_are_cut_not_resized():
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    np.testing.assert_array_equal(_fitted(image, (2, 4)), image[:2, :4])


def test_frames_of_another_size_are_fitted_in_without_distortion(tmp_path):
    frames = recorded(tmp_path / "a.avi", [grey(200, (48, 64)), grey(200, (96, 32))])
    assert [f.shape for f in frames] == [(48, 64, 3)] * 2
    # 96 x 32 in 48 x 64 is 48 x 16, in the middle.
    second = frames[1].mean(axis=(0, 2))
    assert second[26:38].min() > 190
    assert max(second[:20].max(), second[44:].max()) < 10


def test_the_video_of_a_file_has_each_frame_once_whatever_the_time(tmp_path):
    assert len(recorded(tmp_path / "a.mp4", [grey(0)] * 5, times_ms=[0, 0, 900, 901, 5000])) == 5


def test_the_video_of_a_live_source_plays_in_real_time(tmp_path):
    """10 FPS, and a gap: the frame before it is held until the next one came."""
    images = [grey(0), grey(80), grey(160)]
    frames = recorded(tmp_path / "a.avi", images, times_ms=[0, 100, 600], fps=10, is_live=True)
    np.testing.assert_allclose([f.mean() for f in frames], [0, 80, 80, 80, 80, 80, 160], atol=3)


def test_frames_of_a_live_source_that_come_too_fast_are_left_out(tmp_path):
    images = [grey(10 * i) for i in range(21)]
    times_ms = [50 * i for i in range(21)]  # 20 FPS for a second, into a video of 10
    frames = recorded(tmp_path / "a.avi", images, times_ms, fps=10, is_live=True)
    assert len(frames) == 11


def test_a_long_pause_of_a_live_source_is_held_for_five_seconds_only(tmp_path):
    images, times_ms = [grey(0), grey(80), grey(160)], [0, 3_600_000, 3_600_100]
    frames = recorded(tmp_path / "a.avi", images, times_ms, fps=10, is_live=True)
    assert len(frames) == 1 + 50 + 1


def test_a_run_without_frames_leaves_no_empty_file(tmp_path):
    assert open_sink(str(tmp_path / "a.mp4")).close() is None
    assert not (tmp_path / "a.mp4").exists()


def test_a_disk_that_fills_up_ends_the_video_while_it_can_be_completed(tmp_path, monkeypatch):
    sink = open_sink(str(tmp_path / "a.mp4"))
    for _ in range(30):
        sink.write(result())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 3 << 20))
    with pytest.raises(OSError, match=r"a\.mp4: the disk is full \(3 MiB left\); 30 frames are kept"):
        sink.write(result())
    sink.close()
    assert len(frames_of(tmp_path / "a.mp4")[0]) == 30


def test_a_video_that_could_not_be_completed_is_an_error(tmp_path):
    """OpenCV says nothing of failed writes; here, no file may grow beyond 2 kB."""
    sink = open_sink(str(tmp_path / "a.mp4"))
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        for _ in range(10):
            sink.write(result(noise))
        with pytest.raises(OSError, match=r"a\.mp4: the video could not be completed; is the disk full\?"):
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_older_video_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older video")
    sink = open_sink(str(path))
    for _ in range(5):
        sink.write(result())
        assert path.read_bytes() == b"an older video"
    assert listed(tmp_path) == ["a.mp4", "a.partial.mp4"]
    sink.close()
    assert len(frames_of(path)[0]) == 5
    assert listed(tmp_path) == ["a.mp4"]


def test_a_run_without_frames_leaves_the_older_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"an older video")
    open_sink(str(tmp_path / "a.mp4")).close()
    assert (tmp_path / "a.mp4").read_bytes() == b"an older video"
    assert listed(tmp_path) == ["a.mp4"]


def test_a_full_disk_is_said_before_an_older_video_is_lost(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"an older video")
    sink = open_sink(str(tmp_path / "a.mp4"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 3 << 20))
    with pytest.raises(OSError, match=r"the disk is full \(3 MiB left\); 0 frames are kept"):
        sink.write(result())
    sink.close()
    assert (tmp_path / "a.mp4").read_bytes() == b"an older video"
    assert listed(tmp_path) == ["a.mp4"]


def test_a_video_that_could_not_be_completed_leaves_the_older_one(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"an older video")
    sink = open_sink(str(tmp_path / "a.mp4"))
    sink.write(result())
    sink._writer.release()
    (tmp_path / "a.partial.mp4").write_bytes(b"cut off")
    with pytest.raises(OSError, match=r"What came is in .*a\.partial\.mp4"):
        sink.close()
    assert (tmp_path / "a.mp4").read_bytes() == b"an older video"
    assert listed(tmp_path) == ["a.mp4", "a.partial.mp4"]


def test_of_what_killed_runs_recorded_the_longest_is_kept(tmp_path, caplog):
    partial, kept = tmp_path / "a.partial.mkv", tmp_path / "a.cut-off.mkv"
    for content, wanted in (
        (b"minutes", b"minutes"),
        (b"two hours of it", b"two hours of it"),
        (b"s", b"two hours of it"),
    ):
        partial.write_bytes(content)
        sink = open_sink(str(tmp_path / "a.mkv"))
        assert (partial.read_bytes(), kept.read_bytes()) == (b"", wanted)
        sink.close()
    assert caplog.text.count("a.cut-off.mkv: what a run recorded that was killed") == 2
    assert listed(tmp_path) == ["a.cut-off.mkv"]


def test_two_runs_into_one_video_are_refused(tmp_path):
    first = open_sink(str(tmp_path / "a.mp4"))
    with pytest.raises(ValueError, match=r"a\.mp4: another run is recording this file"):
        open_sink(str(tmp_path / "a.mp4"))
    first.write(result())
    first.close()
    assert len(frames_of(tmp_path / "a.mp4")[0]) == 1


def test_behind_a_link_the_file_itself_is_recorded(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.mp4").symlink_to("disk/b.mp4")
    assert len(recorded(tmp_path / "a.mp4", [grey(0)] * 3)) == 3
    assert (tmp_path / "a.mp4").is_symlink()
    assert listed(tmp_path / "disk") == ["b.mp4"]


def test_what_is_planted_under_the_name_of_a_recording_is_not_touched(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "a.partial.mp4").symlink_to("precious")
    with pytest.raises(OSError, match=r"a\.mp4: cannot be written"):
        open_sink(str(tmp_path / "a.mp4"))
    assert (tmp_path / "precious").read_text() == "old"
