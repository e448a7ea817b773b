"""The benchmarks of a checkout, in small."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack

import numpy as np
import pytest

from benchmarks import postprocess, scaling, soak
from benchmarks.bad_camera import BadCamera, Faults
from edge_ssd import open_source
from edge_ssd.models import DEMO_MODEL


def test_post_processing_is_measured_over_contents():
    contents = [c for c in postprocess.CONTENTS if c.name in ("quiet", "all fire, one place")]
    quiet, full = postprocess.measure(["ssd300, 21 columns"], contents, repeats=1)
    assert quiet["candidates"] < 0.01 * full["candidates"]
    assert full["candidates"] == 8732 * 20
    assert full["detections"] == 20  # one of each class
    assert quiet["cpu_ms"] > 0


def test_post_processing_is_drawn(tmp_path):
    rows = [
        {"network": "n", "content": content, "cpu_ms": ms, "kernels_ms": None}
        for content, ms in (("quiet", 1.0), ("all fire", 9.0))
    ]
    postprocess.plot(rows, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_scaling_takes_turns_and_compares_with_the_first(monkeypatch):
    spent = []
    cases = {"1": lambda: spent.append("1"), "2": lambda: spent.append("2")}
    rows = scaling.turns(cases, 3, "x")
    assert spent == ["1", "2"] * 4
    assert [row["case"] for row in rows] == ["1", "2"]
    assert rows[0]["of_first"] == 1


def test_scaling_of_frames_at_once_works_on_as_many(monkeypatch):
    monkeypatch.setattr(scaling, "usable_cores", lambda: 3)
    with ExitStack() as stack:
        cases = scaling.frames_in_flight("demo", stack)
        assert list(cases) == ["1", "2", "3"]
        assert [len(run()) for run in cases.values()] == [16, 16, 16]


def test_scaling_of_cameras_sees_every_frame(monkeypatch):
    class Counting:
        allocate = None
        frames = 0

        def detect_batch(self, frames):
            self.frames += len(frames)

    monkeypatch.setattr(scaling, "_CAMERA_SIZE", (160, 120))
    detector = Counting()
    for run in scaling.cameras(detector).values():
        run()
    assert detector.frames == 16 * len(scaling.CAMERAS)


def test_the_bad_camera_does_all_of_its_faults():
    faults = Faults(every_s=0.3, stall_s=0.1)
    camera = BadCamera("demo://?seed=1&size=160x120&frames=4", fps=60, faults=faults)
    with camera, open_source(camera.address) as source:
        for frame in source:
            assert frame.image.shape == (120, 160, 3)
            if min(camera.counts().values()) >= 1:
                break
        assert source.reopened >= 1


class GoneCamera:
    """A BadCamera that has been unplugged."""

    def __init__(self, *_):
        self.address = "http://127.0.0.1:9/live"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class SilentSource:
    """A Source that waits for a camera until it is stopped."""

    dropped = reopened = 0
    frame_ready = False

    def __init__(self, *_, **__):
        self._stopped = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        assert self._stopped.wait(20)
        return iter(())

    def stop(self):
        self._stopped.set()


class TestSoak:
    """A few seconds of it, and what it would find."""

    def test_it_runs(self, tmp_path, monkeypatch):
        out = ["--out", str(tmp_path), "--minutes", "0.07", "--fault-every", "1", "--most-age-ms", "60000"]
        monkeypatch.setattr(soak, "_MOST_GROWTH", 10)  # seconds say nothing of memory
        assert soak.main(["--model", str(DEMO_MODEL), *out]) == 0
        result = json.loads((tmp_path / "soak.json").read_text())
        assert result["lines"] == result["frames"] > 0
        assert result["problems"] == []
        assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")

    def result(self, **changes):
        samples = [{"rss_mib": 100.0 + changes.pop("leak", 0) * i} for i in range(100)]
        values = {"frames": 9, "lines": 9, "reopened": 2, "faults": {"drop": 2}, "age_ms": {"p99": 50.0}}
        samples[-1]["seconds"] = 99
        return {**values, "came_to_the_end": True, "samples": samples, **changes}

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"lines": 8}, "9 frames were detected in, 8 lines written"),
            ({"reopened": 0}, "2 broken connections, reopened 0 times"),
            ({"came_to_the_end": False}, "no frame came after 99 s: the source did not come back"),
            ({"age_ms": {"p99": 2000.0}}, "99th percentile of the age is 2000 ms"),
        ],
    )
    def test_problems_are_found(self, changes, problem):
        (found,) = soak.problems_of(self.result(**changes), 1000)
        assert problem in found

    def test_a_source_that_stays_away_ends_the_run(self, monkeypatch):
        monkeypatch.setattr(soak, "BadCamera", GoneCamera)
        monkeypatch.setattr(soak, "open_source", SilentSource)
        monkeypatch.setattr(soak, "_LAST_FRAME_S", 0.1)
        with pytest.raises(OSError, match="no frame came"):
            soak.soak(str(DEMO_MODEL), 0.1, 30, Faults())

    def test_a_leak_is_found(self):
        samples = [{"rss_mib": 100.0 + 0.1 * i} for i in range(100)]
        assert soak.memory_growth(samples) == pytest.approx(0.08, abs=0.02)
        assert "memory grew" in soak.problems_of({**self.result(), "samples": samples}, 1000)[0]

    def test_a_flat_run_has_none(self):
        flat = [{"rss_mib": 100.0 + np.sin(i)} for i in range(100)]
        assert soak.problems_of({**self.result(), "samples": flat}, 1000) == []
