"""Source: policies, numbering, reopening and closing, with readers that tests control."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time

import pytest

from edge_ssd.frames import now_ns
from edge_ssd.sources import source as source_module
from edge_ssd.sources.source import Source
from tests.conftest import ROOT
from tests.media import FakeReader


def opened(*readers, policy=None, retry_seconds=float("inf")):
    """A Source whose readers are opened one after the other; an exception in their place is raised."""
    waiting = list(readers)

    def open_next():
        reader = waiting.pop(0)
        if isinstance(reader, Exception):
            raise reader
        return reader

    return Source(open_next, "fake://", policy, retry_seconds)


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 0.01)


def lost(message="lost"):
    return OSError(message)


def test_every_gives_each_frame_once_numbered_from_zero():
    with opened(FakeReader(5)) as source:
        assert [frame.sequence for frame in source] == [0, 1, 2, 3, 4]
    assert (source.policy, source.dropped) == ("every", 0)


def test_live_defaults_to_newest():
    with opened(FakeReader(1, is_live=True)) as source:
        assert source.policy == "newest"


def test_a_live_source_can_be_read_frame_by_frame():
    with opened(FakeReader(3, is_live=True, failure=lost()), policy="every", retry_seconds=0) as source:
        assert [source.read().sequence for _ in range(3)] == [0, 1, 2]


def test_newest_never_gives_a_frame_older_than_a_period():
    reader = FakeReader(10_000, is_live=True, period_s=0.01)
    ages_ms, sequences = [], []
    with opened(reader) as source:
        for frame in source:
            ages_ms.append((now_ns() - frame.timestamp_ns) / 1e6)
            sequences.append(frame.sequence)
            time.sleep(0.045)  # a consumer that is four times too slow
            if len(sequences) == 12:
                break
    # One period is 10 ms; the rest is for a busy machine. A queue would be behind by 400 ms at the end.
    assert sorted(ages_ms)[len(ages_ms) // 2] < 25
    assert max(ages_ms) < 100
    assert sequences == sorted(set(sequences))


def test_gaps_in_the_sequence_are_the_drops():
    reader = FakeReader(60, is_live=False, fps=400)
    with opened(reader, policy="newest") as source:
        sequences = []
        for frame in source:
            sequences.append(frame.sequence)
            time.sleep(0.01)
    assert len(sequences) < 60
    assert source.dropped == 60 - len(sequences)
    assert sequences[-1] == 59  # the last frame is not lost


def test_newest_holds_one_frame_however_many_come():
    reader = FakeReader(300, fps=100_000)
    with opened(reader, policy="newest") as source:
        while reader.taken < 300:
            time.sleep(0.005)
        time.sleep(0.02)
        assert source.read().sequence == 299
        assert source.read() is None
    assert source.dropped == 299


def test_newest_of_a_file_plays_at_its_own_speed():
    start = time.perf_counter()
    with opened(FakeReader(11, fps=100), policy="newest") as source:
        frames = list(source)
    assert time.perf_counter() - start >= 0.1  # ten periods
    assert len(frames) + source.dropped == 11


def test_a_live_source_that_stops_is_opened_again_and_says_so(short_pauses, caplog):
    readers = [
        FakeReader(2, is_live=True, failure=lost("camera unplugged")),
        lost("no such camera"),
        FakeReader(2, is_live=True, failure=lost("gone for good")),
    ]
    with (
        caplog.at_level(logging.WARNING, "edge_ssd"),
        opened(*readers, policy="every") as source,
    ):
        assert [source.read().sequence for _ in range(4)] == [0, 1, 2, 3]
    assert source.reopened == 1
    assert "camera unplugged; trying again in 0.0 s" in caplog.messages[0]
    assert "no such camera" in caplog.messages[1]
    assert caplog.messages[2] == "fake://: back"
    assert readers[0].closed == 1


def test_pauses_grow_and_stay_bounded(monkeypatch, caplog):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(source_module, "_LONGEST_PAUSE_S", 0.05)
    reader = FakeReader(1, is_live=True, failure=lost())
    with (
        caplog.at_level(logging.WARNING, "edge_ssd"),
        opened(reader, *[lost()] * 50, policy="every", retry_seconds=0.2) as source,
    ):
        source.read()
        start = time.monotonic()
        with pytest.raises(OSError, match="lost"):
            source.read()
        assert time.monotonic() - start < 0.3
    assert 4 <= len(caplog.messages) <= 5  # 20, 40, 50, 50 ms


def test_giving_up_raises_the_last_error(short_pauses):
    reader = FakeReader(1, is_live=True, failure=lost("unplugged"))
    with opened(reader, *[lost("no such camera")] * 50, retry_seconds=0.1) as source:
        source.read()
        with pytest.raises(OSError, match="no such camera"):
            source.read()


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_a_live_source_that_never_gave_a_frame_is_not_tried_again(policy):
    with (
        opened(FakeReader(0, is_live=True, failure=lost("in use")), policy=policy) as source,
        pytest.raises(OSError, match="in use"),
    ):
        source.read()


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_the_error_of_a_file_comes_through(policy):
    with (
        opened(FakeReader(0, failure=ValueError("no image in it")), policy=policy) as source,
        pytest.raises(ValueError, match="no image in it"),
    ):
        source.read()


def test_stop_ends_a_waiting_read():
    with opened(FakeReader(100, is_live=True, period_s=0.4)) as source:
        source.read()
        threading.Timer(0.05, source.stop).start()
        start = time.monotonic()
        assert source.read() is None
        assert time.monotonic() - start < 0.3
        assert source.read() is None


def test_stop_ends_the_pause_before_the_next_attempt(monkeypatch):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 30.0)
    with opened(FakeReader(1, is_live=True, failure=lost()), policy="every") as source:
        source.read()
        threading.Timer(0.05, source.stop).start()
        start = time.monotonic()
        assert source.read() is None
        assert time.monotonic() - start < 1


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_close_closes_the_reader_once(policy):
    reader = FakeReader(100, fps=1000)
    with opened(reader, policy=policy) as source:
        source.read()
    assert reader.closed == 1


def test_close_does_not_wait_for_a_device_that_hangs(monkeypatch):
    monkeypatch.setattr(source_module, "_CLOSE_S", 0.1)
    back = threading.Event()

    class Hanging(FakeReader):
        def read(self):
            back.wait()
            return super().read()

    reader = Hanging(1, is_live=True)
    source = opened(reader)
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 1
    assert reader.closed == 0  # not in the middle of a read
    back.set()
    source._newest._thread.join(5)
    assert reader.closed == 1


def test_a_source_that_is_dropped_closes_its_reader():
    reader = FakeReader(10_000, is_live=True, period_s=0.001)
    assert next(iter(opened(reader))).source == "fake"
    gc.collect()
    assert reader.closed == 1


def test_a_program_may_end_without_closing_its_source():
    """A capture thread that outlives the interpreter aborts the process, now and then."""
    code = """
from edge_ssd.sources.source import Source
from tests.media import FakeReader

class Told(FakeReader):
    def close(self):
        print("closed")

source = Source(lambda: Told(10_000, is_live=True, period_s=0.01), "fake://", None, 0)
source.read()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


def test_a_device_that_opens_without_giving_a_frame_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr("edge_ssd.sources.source._FIRST_PAUSE_S", 0.02)
    lost = OSError("no frame")
    readers = [FakeReader(2, is_live=True, failure=lost)]
    readers += [FakeReader(0, is_live=True, failure=lost) for _ in range(50)]
    for reader in readers:
        reader.skipped = 10
    with opened(*readers, policy="every", retry_seconds=0.3) as source:
        assert [source.read().sequence, source.read().sequence] == [0, 1]
        with pytest.raises(OSError, match="no frame"):
            source.read()
        tried = sum(reader.closed > 0 for reader in readers)
        assert 2 <= tried <= 6  # pauses of 0.02, 0.04, 0.08, 0.16 s
        assert source.reopened == 0  # it was never back
        assert source.skipped == 10 * tried


def test_what_was_skipped_before_a_reopening_counts(monkeypatch):
    monkeypatch.setattr("edge_ssd.sources.source._FIRST_PAUSE_S", 0.01)
    first, second = FakeReader(1, is_live=True, failure=OSError("lost")), FakeReader(1, is_live=True)
    first.skipped, second.skipped = 3, 4
    with opened(first, second, policy="every") as source:
        assert [frame.sequence for frame in source] == [0, 1]
        assert source.skipped == 7
        assert source.reopened == 1
