"""All that needs a GPU, in one command: tests, kernels against their floors, the pipeline, its peers.

    make gpu-check OUT=folder
    python3 -m benchmarks.gpu_check --out folder

It runs from the checkout with the machine's own Python and installs nothing: NumPy, OpenCV and CuPy have to be
there, torch for the pipeline, torchvision for its peers, TensorRT where it is to be measured. What is missing is
a row that says so. Each section is a process of its own with a time limit, so that a crash costs one section.
Eight minutes at most. Writes gpu_check.json, .md and .png into the folder, again after every section.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edge_ssd.gpu_info import gpu_info

from .gpu_records import Record, Records, one_line
from .gpu_report import table, target_rows, write_report

_ROOT = Path(__file__).resolve().parent.parent
_TOTAL_S = 470
_TESTS = "tests marked gpu"
# Where they are: what else pytest would import needs more than such a machine has (onnx, onnxruntime).
_TEST_PATHS = ("tests/kernels", "tests/backends/test_cuda_gpu.py", "tests/engines/test_torch_on_gpu.py")


@dataclass(frozen=True)
class Section:
    """module, function: what runs, given the Records.   limit_s: how long it may take."""

    module: str
    limit_s: float
    function: str = "run"


SECTIONS = {
    "device": Section("gpu_device", 60),
    "tests": Section("gpu_check", 150, "run_tests"),
    "kernels": Section("gpu_kernels", 150),
    "pipeline": Section("gpu_pipeline", 120),
    "peers": Section("gpu_peers", 90),
    "tensorrt": Section("gpu_tensorrt", 150),
    "compile": Section("gpu_peers", 120, "run_compiled"),
}


def main(argv=None):
    """Runs all sections, or those asked for; 0 unless there is no GPU or a section or a test failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="S")
    parser.add_argument("--one", choices=SECTIONS, help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args(argv)
    try:
        gpu_info()
    except OSError as error:
        print(f"gpu-check: {error}. What runs without a GPU: make test", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    records = Records(arguments.out / "gpu_check.jsonl")
    if arguments.one:
        section = SECTIONS[arguments.one]
        getattr(importlib.import_module(f"benchmarks.{section.module}"), section.function)(records)
        return 0
    records.clear()
    return run_sections(arguments.out, records, arguments.sections)


def run_sections(out, records, names, total_s=_TOTAL_S):
    """One process after the other; the report is written after each. Returns the exit code."""
    start, text = time.monotonic(), ""
    for name in names:
        left_s = total_s - (time.monotonic() - start)
        print(f"{name} ...", file=sys.stderr, flush=True)
        _run_section(out, records, name, min(SECTIONS[name].limit_s, left_s))
        text = write_report(records.read(), out)
    print(text)
    rows = target_rows(records.read())
    print(table(("figure", "wanted", "measured", "reached"), rows))
    failed = [record for record in records.read() if record.status == "failed"]
    for record in failed:
        print(f"FAILED {record.section}, {record.name}: {record.reason}")
    return 1 if failed else 0


def _run_section(out, records, name, limit_s):
    if limit_s < 10:
        records.add(Record(name, name, "skipped", "no time was left"))
        return
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(out.resolve()), "--one", name]
    problem = _run_limited(command, out / f"{name}.log", limit_s)
    if problem:
        records.add(Record(name, name, "failed", problem))


def _run_limited(command, log, limit_s):
    """Runs a program in the checkout, its output in `log`. Returns what went wrong, "" when nothing did."""
    with log.open("wb") as file:
        # A session of its own, so that what it has started itself ends with it.
        process = subprocess.Popen(
            command, cwd=_ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {limit_s:.0f} s; see {log.name}"
    return one_line(f"exit code {code}: {_last_line(log)}") if code else ""


def _last_line(log):
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def run_tests(records):
    """Adds the row of `pytest -m gpu`: how many passed and failed."""
    with records.row("tests", _TESTS) as values:
        import pytest  # noqa: F401  (missing is a row)

        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider"]
        done = subprocess.run([*command, *_TEST_PATHS], cwd=_ROOT, capture_output=True, text=True)
        print(done.stdout, done.stderr)
        values.update(pytest_counts(done.stdout))
        if done.returncode:
            failed = re.findall(r"^(?:FAILED|ERROR) (.*)", done.stdout, re.MULTILINE)
            raise AssertionError("; ".join(failed[:3]) or _tail(done))


def pytest_counts(output):
    """{"passed": n, "failed": n, "skipped": n, "errors": n} of pytest's last line."""
    counts = {"passed": 0, "failed": 0, "skipped": 0, "errors": 0}
    last = output.strip().splitlines()[-1] if output.strip() else ""
    for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last):
        counts["errors" if word == "error" else word] = int(number)
    return counts


def _tail(done):
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"pytest ended with exit code {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
