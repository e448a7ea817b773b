"""All that needs a GPU, in one command: tests, kernels against their floors, the pipeline, its peers.

    make gpu-check OUT=folder
    python3 -m benchmarks.gpu.check --out folder

It runs from the checkout with the machine's own Python and installs nothing: NumPy, OpenCV and CuPy have to be
there, torch for the pipeline, torchvision for its peers, TensorRT where it is to be measured. What is missing is
a row that says so. Each section is a process of its own with a time limit, so that a crash costs one section.
Nine minutes at most. Writes gpu_check.json, .md, .png and, with all that was printed, .tar.gz into the folder, again
after every section.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edge_ssd.files import replacing
from edge_ssd.machine.gpu import gpu_info

from .records import Record, Records, one_line
from .report import NAME, table, target_rows, write_report

_ROOT = Path(__file__).resolve().parents[2]
_TOTAL_S = 535
_TESTS = "tests marked gpu"
# Where they are: what else pytest would import needs more than such a machine has (onnx, onnxruntime).
_TEST_PATHS = ("tests/kernels", "tests/backends/test_cuda_gpu.py", "tests/engines/test_torch_on_gpu.py")
_PYTEST = ("-m", "pytest", "-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider")

# What compute-sanitizer looks at: tests of every kernel that take it seconds.
_SANITISED = "any_block_size or sizes_around_a_warp or one_batch_do_not_mix"
_SANITIZER = "compute-sanitizer"


@dataclass(frozen=True)
class Section:
    """module, function: what runs, given the Records.   limit_s: how long it may take.   least_s: with less time left
    it is not begun."""

    module: str
    limit_s: float
    function: str = "run"
    least_s: float = 20


SECTIONS = {
    "device": Section("device", 60),
    "tests": Section("check", 150, "run_tests"),
    "kernels": Section("kernels", 150),
    "pipeline": Section("pipeline", 200),  # cuDNN tries out its algorithms for each network and batch size
    "peers": Section("peers", 90),
    "tensorrt": Section("tensorrt", 150),
    "compile": Section("peers", 120, "run_compiled"),
    "memcheck": Section("check", 60, "run_memcheck", 40),
    "racecheck": Section("check", 60, "run_racecheck", 40),
}


def main(argv=None):
    """Runs all sections, or those asked for; 0 unless there is no GPU or a section or a test failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="S")
    # One section in this process; its rows go into the folder `out`.
    parser.add_argument("--one", choices=SECTIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    try:
        gpu_info()
    except OSError as error:
        print(f"gpu-check: {error}. What runs without a GPU: make test", file=sys.stderr)
        return 1
    if arguments.one:
        section = SECTIONS[arguments.one]
        run = getattr(importlib.import_module(f"benchmarks.gpu.{section.module}"), section.function)
        run(Records(arguments.out / f"{NAME}.jsonl"))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    return run_sections(arguments.out, arguments.sections)


def run_sections(out, names, total_s=_TOTAL_S):
    """One process after the other; the report is written after each. Returns the exit code."""
    start, text = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        records = Records(work / f"{NAME}.jsonl")
        for name in names:
            left_s = total_s - (time.monotonic() - start)
            print(f"{name} ...", file=sys.stderr, flush=True)
            _run_section(work, records, name, left_s)
            text = write_report(records.read(), out)
            _archive(work, out / f"{NAME}.tar.gz")
        found = records.read()
    print(text)
    print(table(("figure", "wanted", "measured", "reached"), target_rows(found)))
    failed = [record for record in found if record.status == "failed"]
    for record in failed:
        print(f"FAILED {record.section}, {record.name}: {record.reason}")
    return 1 if failed else 0


def _archive(folder, path):
    """What the sections have written so far, in one file."""
    with replacing(path) as temporary, tarfile.open(temporary, "w:gz") as archive:
        archive.add(folder, NAME)


def _run_section(work, records, name, left_s):
    section = SECTIONS[name]
    if left_s < section.least_s:
        records.add(Record(name, name, "skipped", "no time was left"))
        return
    command = [sys.executable, "-u", "-m", "benchmarks.gpu.check", "--out", str(work), "--one", name]
    problem = _run_limited(command, work / f"{name}.log", min(section.limit_s, left_s))
    if problem:
        # One that had less than its time has shown nothing.
        is_cut = problem.startswith("stopped") and left_s < section.limit_s
        records.add(Record(name, name, "skipped" if is_cut else "failed", problem))


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
            return one_line(f"stopped after {limit_s:.0f} s; {log.name} ends with: {_last_line(log)}")
    return one_line(f"exit code {code}: {_last_line(log)}") if code else ""


def _last_line(log):
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def run_tests(records):
    """Adds the row of `pytest -m gpu`: how many passed and failed. None that passed is a failure, too."""
    with records.row("tests", _TESTS) as values:
        code, output = _shown([sys.executable, *_PYTEST, "-rs", "--durations=15", *_TEST_PATHS])
        values.update(pytest_counts(output))
        problem = _problem_of(code, output, values)
        if problem:
            raise AssertionError(problem)


def run_memcheck(records):
    """Adds the row of compute-sanitizer's memcheck, on a few tests of the kernels."""
    _sanitise(records, "memcheck")


def run_racecheck(records):
    """Adds the row of its racecheck, which looks for races in shared memory."""
    _sanitise(records, "racecheck")


def _sanitise(records, tool):
    with records.row("sanitizer", tool) as values:
        program = shutil.which(_SANITIZER) or shutil.which(_SANITIZER, path="/usr/local/cuda/bin")
        if program is None:
            raise ImportError(f"{_SANITIZER} is not there; the CUDA toolkit has it")
        options = ["--tool", tool, "--error-exitcode", "9"]
        tests = [sys.executable, *_PYTEST, "-x", "-k", _SANITISED, "tests/kernels"]
        code, output = _shown([program, *options, *tests])
        values.update(pytest_counts(output))
        problem = _problem_of(code, output, values)
        if problem:
            raise AssertionError(problem)


def _shown(command):
    """(exit code, output) of a program, whose lines are printed as they come: one that hangs says where."""
    lines = []
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def _problem_of(code, output, counts):
    """What is wrong with a run of the tests, as text; empty when nothing is."""
    if code:
        failed = re.findall(r"^(?:FAILED|ERROR) (.*)", output, re.MULTILINE)
        return "; ".join(failed[:3]) or f"exit code {code}: {(output.strip().splitlines() or [''])[-1]}"
    if not counts["passed"]:
        skipped = re.search(r"^SKIPPED \[\d+\] \S+ (.*)", output, re.MULTILINE)
        return f"no GPU test passed: {skipped[1] if skipped else 'none was found'}"
    return ""


def pytest_counts(output):
    """{"passed": n, "failed": n, "skipped": n, "errors": n} of pytest's closing line, which others may follow."""
    counts = {"passed": 0, "failed": 0, "skipped": 0, "errors": 0}
    closing = [line for line in output.splitlines() if re.search(r"\d+ \w+.* in [\d.]+s", line)]
    for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", closing[-1] if closing else ""):
        counts["errors" if word == "error" else word] = int(number)
    return counts


if __name__ == "__main__":
    sys.exit(main())
