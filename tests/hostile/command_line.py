"""`edge-ssd` in a child process, with what it cost: how every hostile input is tried."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

MOST_SECONDS = 5.0
MOST_BYTES = 1 << 30


class Ended(NamedTuple):
    """How a command ended.

    code: below 0, a signal.   peak_bytes: of memory in use, the largest process's.   seconds: of CPU time, of all its
    processes, or a quarter of those by the clock if that is more: other work on the machine may double those.
    """

    code: int
    out: str
    err: str
    seconds: float
    peak_bytes: int


# A process begins with the memory of the one that started it, as far as its peak is told. pytest has gigabytes after
# some tests; this one is small. It takes on how the command ended, and writes its peak and CPU time to a descriptor.
_BETWEEN = """
import os, sys
peak = int(sys.argv[1])
os.set_inheritable(peak, False)
child = os.fork()
if not child:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
os.write(peak, b"%d %f" % (usage.ru_maxrss, usage.ru_utime + usage.ru_stime))
code = os.waitstatus_to_exitcode(status)
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def edge_ssd(*arguments: object, cwd: Path, timeout: float = 60, **environment: str) -> Ended:
    """Runs `edge-ssd ARGUMENTS` in a folder; killed with its children, and a failure, when it does not end."""
    command = [sys.executable, "-m", "edge_ssd", *map(str, arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as peak:
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BETWEEN, str(peak.fileno()), *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            start_new_session=True,
            pass_fds=[peak.fileno()],
        )
        while True:
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - start > timeout:
                os.killpg(process.pid, 9)
                _, status = os.waitpid(process.pid, 0)
                break
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        texts = []
        for file in (out, err, peak):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    peak_kb, cpu_seconds = texts[2].split() or (0, 0)  # nothing when it was killed
    return Ended(
        process.returncode, texts[0], texts[1], max(float(cpu_seconds), seconds / 4), int(peak_kb) * 1024
    )


def assert_refused(ended: Ended, *parts: str, code: int = 1, seconds: float = MOST_SECONDS) -> None:
    """One line `error: ...` that holds `parts`, the exit code, and neither time nor memory beyond the limits."""
    lines = ended.err.strip().splitlines()
    assert ended.code == code, ended
    assert "Traceback" not in ended.err, ended.err
    assert lines, ended
    assert lines[-1].startswith("error: "), ended
    assert sum(line.startswith("error: ") for line in lines) == 1, ended.err
    for part in parts:
        assert part in lines[-1], lines[-1]
    assert ended.seconds < seconds, ended
    assert ended.peak_bytes < MOST_BYTES, ended
