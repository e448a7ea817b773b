"""gpu-check without a GPU: what it refuses, its report, and its benchmarks on a simulated device."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from benchmarks.gpu import cases, check, kernels, pipeline, preprocess
from benchmarks.gpu.records import Record, Records, value_of
from benchmarks.gpu.report import as_json, markdown, section_tables, write_report
from benchmarks.gpu.targets import TARGETS
from benchmarks.gpu.timing import Timing
from tests.backends.brightness import brightness, small_spec
from tests.kernels.simulated_engine import SimulatedEngine
from tests.specs import grid_spec


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "rows.jsonl")


def no_gpu():
    raise OSError("no NVIDIA driver on this machine")


class TestWithoutAGpu:
    """One line, exit code 1, nothing written."""

    def test_it_says_so(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(check, "gpu_info", no_gpu)
        assert check.main(["--out", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "no NVIDIA driver on this machine. What runs without a GPU: make test" in error
        assert not (tmp_path / "out").exists()


class TestRecords:
    """Rows on disk, whatever happens while they are measured."""

    def test_values_are_read_back(self, records):
        with records.row("kernels", "preprocess") as values:
            values["median_us"] = 3.5
        assert records.value("kernels", "preprocess", "median_us") == 3.5
        assert records.value("kernels", "merge", "median_us") is None

    @pytest.mark.parametrize(
        ("error", "status"), [(ImportError("no torch"), "missing"), (RuntimeError("a\nb"), "failed")]
    )
    def test_an_error_is_a_row_and_no_more(self, records, error, status):
        with records.row("peers", "eager"):
            raise error
        (record,) = records.read()
        assert record.status == status
        assert "\n" not in record.reason

    def test_a_new_run_forgets_the_old_one(self, records):
        records.add(Record("a", "b"))
        records.clear()
        assert records.read() == []


class TestSections:
    """Each in a process of its own."""

    def run(self, tmp_path, records, code, limit_s=20.0):
        return check._run_limited([sys.executable, "-c", code], tmp_path / "x.log", limit_s)

    def test_what_ends_well_is_no_problem(self, tmp_path, records):
        assert self.run(tmp_path, records, "print('fine')") == ""

    def test_a_crash_is_named_with_its_last_line(self, tmp_path, records):
        problem = self.run(tmp_path, records, "import os; print('about to', flush=True); os.abort()")
        assert problem == "exit code -6: about to"

    def test_one_that_hangs_is_stopped_with_what_it_started(self, tmp_path, records):
        started = (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(99)'])"
        )
        assert "stopped after 1 s" in self.run(tmp_path, records, started, limit_s=1.0)
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        assert "time.sleep(99)" not in listed

    def test_no_time_left_is_a_row(self, tmp_path, capsys):
        assert check.run_sections(tmp_path, ["compile"], total_s=5) == 0
        report = json.loads((tmp_path / "gpu_check.json").read_text())
        assert [r["status"] for r in report["records"]] == ["skipped"]
        assert "no time was left" in capsys.readouterr().out

    def test_a_section_that_had_less_than_its_time_is_no_failure(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            check, "_run_limited", lambda command, log, limit_s: f"stopped after {limit_s:.0f} s"
        )
        assert check.run_sections(tmp_path, ["pipeline"], total_s=60) == 0
        (row,) = json.loads((tmp_path / "gpu_check.json").read_text())["records"]
        assert (row["status"], row["reason"]) == ("skipped", "stopped after 60 s")
        assert check.run_sections(tmp_path, ["pipeline"], total_s=300) == 1

    def test_five_files_at_most_and_all_that_was_printed_in_one(self, tmp_path, monkeypatch, capsys):
        """A section that hangs leaves what it said before."""
        started = []

        def run_limited(command, log, limit_s, run=check._run_limited):
            started.append(command)
            code = "print('about to', flush=True); import time; time.sleep(99)"
            return run([sys.executable, "-c", code], log, 2.0)

        monkeypatch.setattr(check, "_run_limited", run_limited)
        assert check.run_sections(tmp_path, ["device", "kernels"]) == 1
        assert (
            "FAILED kernels, kernels: stopped after 2 s; kernels.log ends with: about to"
            in capsys.readouterr().out
        )
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {f"gpu_check.{suffix}" for suffix in ("json", "md", "png", "tar.gz")}
        with tarfile.open(tmp_path / "gpu_check.tar.gz") as archive:
            assert {"gpu_check/device.log", "gpu_check/kernels.log", "gpu_check/gpu_check.jsonl"} <= set(
                archive.getnames()
            )
            assert archive.extractfile("gpu_check/kernels.log").read() == b"about to\n"
        assert [command[command.index("--one") + 1] for command in started] == ["device", "kernels"]

    def test_nine_minutes_hold_all_that_must_run(self):
        needed = ("device", "tests", "kernels")
        assert sum(check.SECTIONS[name].limit_s for name in needed) + 170 <= check._TOTAL_S <= 540
        assert check.SECTIONS["pipeline"].limit_s == 200

    @pytest.mark.parametrize(
        "output",
        [
            "....F\n= 1 failed, 12 passed, 3 skipped, 2 errors in 9.12s =\n",
            "1 failed, 12 passed, 3 skipped, 2 errors in 61.00s (0:01:01)\n========= ERROR SUMMARY: 0 errors\n",
        ],
    )
    def test_pytests_summary_is_read(self, output):
        assert check.pytest_counts(output) == {"passed": 12, "failed": 1, "skipped": 3, "errors": 2}


class TestGpuTests:
    """The row of `pytest -m gpu`: a GPU was asked for, so none that passed is no success."""

    def row(self, records, monkeypatch, code, output):
        monkeypatch.setattr(check, "_shown", lambda _: (code, output))
        check.run_tests(records)
        (record,) = records.read()
        return record

    def test_some_that_passed_are_a_success(self, records, monkeypatch):
        record = self.row(
            records, monkeypatch, 0, "SKIPPED [1] a.py:3: no torch\n12 passed, 1 skipped in 3.00s\n"
        )
        assert (record.status, record.values["passed"]) == ("ok", 12)

    def test_all_skipped_is_a_failure_with_the_reason(self, records, monkeypatch):
        skipped = "SKIPPED [211] tests/conftest.py:45: no GPU: CuPy failed to load libnvrtc.so.13\n"
        record = self.row(records, monkeypatch, 0, f"{skipped}211 skipped in 3.00s\n")
        assert record.status == "failed"
        assert "no GPU test passed: no GPU: CuPy failed to load libnvrtc.so.13" in record.reason

    def test_a_failure_is_named(self, records, monkeypatch):
        output = "FAILED tests/a.py::test_x - assert 0\n1 failed, 12 passed in 3.00s\n"
        record = self.row(records, monkeypatch, 1, output)
        assert "tests/a.py::test_x - assert 0" in record.reason

    def test_no_pytest_is_a_failure(self, records, monkeypatch):
        record = self.row(records, monkeypatch, 1, "/usr/bin/python3: No module named pytest\n")
        assert record.status == "failed"
        assert "No module named pytest" in record.reason

    def test_on_this_machine_it_is_a_failure(self, records):
        """Really run, on what is quick: without a GPU all are skipped."""
        code, output = check._shown([sys.executable, *check._PYTEST, "-rs", "tests/kernels/test_arrays.py"])
        counts = check.pytest_counts(output)
        if counts["passed"]:
            pytest.skip("this machine has a GPU")
        assert check._problem_of(code, output, counts).startswith("no GPU test passed: no GPU: ")

    def test_the_sanitizer_is_missing_or_runs_both_tools(self, records, monkeypatch):
        ran = []
        monkeypatch.setattr(check.shutil, "which", lambda name, path=None: f"/cuda/bin/{name}")
        monkeypatch.setattr(
            check, "_shown", lambda command: ran.append(command) or (0, "9 passed in 3.00s\n")
        )
        check.run_memcheck(records)
        check.run_racecheck(records)
        assert [(r.name, r.status) for r in records.read()] == [("memcheck", "ok"), ("racecheck", "ok")]
        assert [command[:3] for command in ran] == [
            ["/cuda/bin/compute-sanitizer", "--tool", tool] for tool in ("memcheck", "racecheck")
        ]
        monkeypatch.setattr(check.shutil, "which", lambda name, path=None: None)
        check.run_memcheck(records)
        assert [r.status for r in records.read()][2:] == ["missing"]

    def test_the_sanitizer_has_tests_to_run(self):
        command = [
            sys.executable,
            *check._PYTEST,
            "--collect-only",
            "-k",
            check._SANITISED,
            "tests/kernels",
        ]
        _, output = check._shown(command)
        for name in check._SANITISED.split(" or "):
            assert f"{name}" in output


# By column: a value that reaches every target that asks for it, and one that reaches none.
MADE_UP = {
    "median_us": (5.0, 90.0),
    "of_network": (0.9, 0.5),
    "around_network_and_copy_us": (100.0, 300.0),
    "pipeline_fps": (2000.0, 100.0),
    "frame_p50_us": (20000.0, 20000.0),
    "postprocess_p50_us": (300.0, 300.0),
    "allocations": (0, 3),
    "waits_per_frame": (1.0, 2.0),
    "free_bytes_lost": (0, 4096),
    "frames_with_other_rows": (0, 1),
    "of_one_camera": (0.3, 0.8),
}


def made_up(is_good=True):
    """Records that reach all targets, or none."""
    places = dict.fromkeys(place for target in TARGETS for place in target.places)
    rows = [Record(section, name, values={c: MADE_UP[c][not is_good]}) for section, name, c in places]
    return [Record("device", "GPU", values={"name": "Test GPU"}), *rows]


class TestReport:
    """JSON, Markdown, a picture."""

    def test_targets_are_judged(self):
        assert {row["reached"] for row in as_json(made_up())["targets"]} == {"yes"}
        assert {row["reached"] for row in as_json(made_up(is_good=False))["targets"]} == {"no"}
        assert {row["reached"] for row in as_json([])["targets"]} == {"not measured"}

    def test_files_are_written(self, tmp_path):
        records = [
            *made_up(),
            Record("kernels", "merge", values={"median_us": 3.0, "floor_us": 0.5}),
            Record("pipeline", "x", values={"pipeline_fps": 900.0, "network_fps": 1000.0}),
            Record("peers", "y", "missing", "no torchvision"),
        ]
        text = write_report(records, tmp_path)
        assert (tmp_path / "gpu_check.md").read_text() == text
        assert "# edge_ssd on Test GPU" in text
        assert "- y: missing, no torchvision" in text
        assert len(json.loads((tmp_path / "gpu_check.json").read_text())["records"]) == len(records)
        assert (tmp_path / "gpu_check.png").read_bytes().startswith(b"\x89PNG")

    def test_rows_with_the_same_columns_share_a_table(self):
        rows = [Record("s", n, values={"a_us": v}) for n, v in (("x", 1.23456), ("y", 123456.0))]
        (table,) = section_tables(rows)
        assert table.splitlines() == ["|  | a_us |", "| --- | --- |", "| x | 1.235 |", "| y | 123456 |"]

    def test_an_empty_run_is_a_report_too(self):
        assert markdown([]).startswith("# edge_ssd on no GPU")


class FakeTimer:
    """Runs the work once on the simulated device and says that it took 2 us."""

    def __init__(self, device):
        self._device, self.runs = device, 0

    def __call__(self, work):
        with self._device.stream:
            for one in work:
                one()
        self._device.stream.synchronize()
        self.runs += 1
        return Timing(2.0, 1.9, 2.1)


@pytest.fixture
def timer(simulated):
    return FakeTimer(simulated)


def small_case_spec():
    return grid_spec(5, 7, class_names=("a", "b", "c", "d"), max_detections=200)


class TestKernelBenchmarks:
    """The same code, on the simulated device."""

    def test_post_processing_is_checked_and_timed(self, simulated, timer, records):
        some = [cases.Case(content) for content in cases.CONTENTS]
        some.append(cases.Case("all fire", "float32", 2))
        kernels.time_postprocess(records, simulated, timer, 4096, 4000.0, small_case_spec(), some)
        rows = records.read()
        assert [r.reason for r in rows] == [""] * len(rows)
        assert len(rows) == 3 * 4 + 1
        assert all(r.values["over_floor"] > 0 for r in rows)

    def test_a_wrong_kernel_is_not_timed(self, simulated, timer, records, monkeypatch):
        monkeypatch.setattr(kernels.reference, "postprocess", lambda *_: (np.ones((200, 6)), np.ones(2)))
        case = [cases.Case("quiet")]
        kernels.time_postprocess(records, simulated, timer, 4096, None, small_case_spec(), case)
        assert [r.status for r in records.read()] == ["failed"]
        assert timer.runs == 0

    def test_preprocess_is_checked_and_timed(self, simulated, timer, records):
        kinds = [("bgr8", 1), ("nv12", 1), ("yuyv", 2)]
        some = [preprocess.FrameCase((36, 64), kind, batch_size=count) for kind, count in kinds]
        preprocess.time_preprocess(records, simulated, timer, 4096, 4000.0, small_case_spec(), some)
        rows = records.read()
        assert [r.reason for r in rows] == [""] * len(rows)
        assert len(rows) == 3

    def test_block_sizes_are_compared(self, simulated, timer, records):
        spec, case = small_case_spec(), preprocess.FrameCase((36, 64))
        preprocess.tune_preprocess(records, simulated, timer, 4096, spec, case, [(64, 4096), (128, 8192)])
        kernels.tune_postprocess(records, simulated, timer, 4096, spec, (64, 128))
        rows = records.read()
        assert [r.reason for r in rows] == [""] * len(rows)
        assert len(rows) == 2 + 2 * 2

    def test_targets_ask_for_rows_that_are_measured(self):
        measured = {f"post-processing {case.name}" for case in cases.CASES}
        measured |= {case.name for case in preprocess.CASES}
        asked = {place[1] for t in TARGETS for place in t.places if place[0] == cases.SECTION}
        assert asked <= measured


class TestPipelineBenchmark:
    """The same code, on the simulated device."""

    def test_it_measures(self, simulated, monkeypatch):
        monkeypatch.setattr(pipeline, "FRAME_SIZE", (36, 64))
        engine = SimulatedEngine(simulated, brightness, (100, 100))
        rig = pipeline.Rig(simulated, engine, small_spec(), "pinned")
        amounts = pipeline.Amounts(turns=2, turn_s=0, fewest=2, latencies=4)
        values = rig.throughput(amounts) | rig.latency(amounts) | rig.stages(amounts)
        assert values["of_network"] > 0
        assert values["latency_p50_us"] > values["network_latency_p50_us"] > 0
        assert (values["cpu_copies"], values["bus_copies"]) == (0, 1)
        wanted = {place[2] for t in TARGETS for place in t.places if place[0] == pipeline.SECTION}
        counted = {
            "allocations",
            "waits_per_frame",
            "free_bytes_lost",
            "frames_with_other_rows",
            "of_one_camera",
        }
        assert wanted - counted <= set(values)

    def test_many_cameras(self, simulated, monkeypatch):
        monkeypatch.setattr(pipeline, "FRAME_SIZE", (36, 64))
        engine = SimulatedEngine(simulated, brightness, (100, 100))
        rig = pipeline.Rig(simulated, engine, small_spec(), "mapped", 3)
        assert rig.throughput(pipeline.Amounts(turns=1, turn_s=0, fewest=2))["pipeline_fps"] > 0


def test_value_of_skips_rows_that_have_none():
    rows = [Record("a", "b", "failed", "x"), Record("a", "b", values={"c": 1})]
    assert value_of(rows, "a", "b", "c") == 1
