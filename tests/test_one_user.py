"""One detector in two threads at once, or in a forked process: an error, never wrong boxes and no hang."""

from __future__ import annotations

import os
import signal
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest

from edge_ssd import Detector, Frame
from edge_ssd.backends.one_user import OneUser
from edge_ssd.sources import open_source

BLACK = np.zeros((64, 64, 3), np.uint8)
needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def frames():
    """Three frames with different objects, all of one time, so that their detections can be compared."""
    with open_source("demo://?seed=4&frames=3&scene=1") as source:
        return [Frame(frame.image.copy(), timestamp_ns=1) for frame in source]


class SlowBackend:
    """Waits inside every step until it is told to go on."""

    in_flight, max_batch = 1, 0

    def __init__(self):
        self.inside, self.go_on = threading.Event(), threading.Event()

    def submit(self, frames):
        self.inside.set()
        assert self.go_on.wait(10)
        raise KeyError("done")  # nothing to detect here

    collect = submit

    def close(self):
        self.submit(None)


@pytest.mark.parametrize("step", ["detect", "submit", "collect", "detect_batch", "close"])
def test_a_call_while_another_thread_is_in_one_is_refused(step):
    backend = SlowBackend()
    detector = Detector(backend)
    calls = {
        "detect": lambda: detector.detect(BLACK),
        "submit": lambda: detector.submit(BLACK),
        "collect": lambda: detector.collect(([], None)),
        "detect_batch": lambda: detector.detect_batch([BLACK]),
        "close": detector.close,
    }
    errors = []

    def first():
        try:
            detector.submit(BLACK)
        except KeyError as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert backend.inside.wait(10)
    with pytest.raises(
        RuntimeError, match="detector: is at work in another thread; load one for each thread"
    ):
        calls[step]()
    backend.go_on.set()
    thread.join()
    assert len(errors) == 1  # the one that was first has gone on
    with pytest.raises(KeyError):  # and after an error the detector is free again
        calls[step]()


def test_threads_may_take_turns(engine, frames):
    with Detector.load("demo", engine=engine, threads=1) as detector:
        expected, found = detector.detect(frames[1]), []
        for _ in range(2):
            thread = threading.Thread(target=lambda: found.append(detector.detect(frames[1])))
            thread.start()
            thread.join()
    assert found == [expected] * 2


def test_many_threads_on_one_detector_get_the_right_boxes_or_an_error(frames):
    with Detector.load("demo", engine="onnxruntime", threads=1, score_threshold=None) as detector:
        expected = [detector.detect(frame) for frame in frames]
        assert len({len(detections) for detections in expected}) > 1  # so that an exchange would show
        wrong, refused = [], []

        def work(index):
            for _ in range(30):
                try:
                    if detector.detect(frames[index]) != expected[index]:
                        wrong.append(index)
                except RuntimeError as error:
                    refused.append(str(error))

        threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert {*refused} == {"detector: is at work in another thread; load one for each thread"}


def ended_in_child(work, seconds=10):
    """What `work()` gives in a forked process, as text; the name of the error it raises; "hangs"."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
    else:
        if time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        return file.read() or "hangs"


FORKED = "RuntimeError: detector: was loaded before this process was forked"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_forked_process_gets_an_error(engine, in_flight, frames):
    detector = Detector.load("demo", engine=engine, threads=2, in_flight=in_flight)
    expected = detector.detect(frames[0])
    ticket = detector.submit(frames[0])
    going_on = detector.detect_all(frames)
    next(going_on)
    for work in (
        lambda: detector.detect(frames[0]),
        lambda: detector.collect(ticket),
        lambda: detector.is_done(ticket),
        lambda: detector.detect_batch(frames),
        lambda: list(going_on),
    ):
        assert ended_in_child(work).startswith(FORKED)
    assert ended_in_child(detector.close) == "None"
    assert detector.collect(ticket) == expected  # here it goes on
    list(going_on)
    detector.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_that_drops_a_detector_does_not_hang(engine, frames):
    holder = [Detector.load("demo", engine=engine, threads=2)]
    holder[0].detect(frames[0])
    assert ended_in_child(holder.clear) == "None"
    holder[0].close()


def test_the_guard_costs_little():
    """Two microseconds a frame, of which this takes its two uses: submit and collect."""
    guard, count, best = OneUser(None), 2000, float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(count):
            with guard:
                pass
        best = min(best, (time.perf_counter() - start) / count)
    assert 2 * best < 2e-6
