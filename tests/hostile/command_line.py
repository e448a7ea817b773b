"""`edge-ssd` in a child process, with what it cost: how every hostile input is tried."""

from __future__ import annotations

import os
import signal
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
    """How a command ended.   code: below 0, a signal.   peak_bytes: of memory in use, the largest process's."""

    code: int
    out: str
    err: str
    seconds: float
    peak_bytes: int


# Between pytest and the command: what a process has had resident begins with what its parent has, and pytest may have
# gigabytes. Writes the command's wait status and its peak in KiB to the file descriptor that comes first.
_LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
os.write(int(sys.argv[1]), b"%d %d" % (status, usage.ru_maxrss))
"""


def edge_ssd(*arguments: object, cwd: Path, timeout: float = 60, **environment: str) -> Ended:
    """Runs `edge-ssd ARGUMENTS` of this checkout in a folder; killed with its children, and a failure, when it does not
    end."""
    command = [sys.executable, "-m", "edge_ssd", *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as end:
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCHER, str(end.fileno()), *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=[end.fileno()],
            env={**os.environ, "PYTHONPATH": path, **environment},
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - start
        texts = []
        for file in (out, err, end):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    status, peak_kb = map(int, texts.pop().split() or (signal.SIGKILL, 0))
    return Ended(os.waitstatus_to_exitcode(status), *texts, seconds, peak_kb * 1024)


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
