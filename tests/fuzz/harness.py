"""How one kind of file is tried: mutated inputs, one after the other, in a process that may hang or die."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# What the command line turns into one line: everything else is a failure.
KNOWN_ERRORS = (ValueError, OSError, ImportError)

CORPUS = Path(__file__).parent / "corpus"

MOST_SECONDS = 5.0
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Harness:
    """One kind of file.

    right: () -> files that are right.   mutate: (rng, seed) -> another file.   run: (data, folder) -> reads it; what it
    raises of KNOWN_ERRORS is fine.   seconds: that one input may take.   address_space: bytes that it may claim
    beyond those of the process that starts; 0 for any, of what maps much and uses little.
    """

    name: str
    right: Callable[[], Sequence[bytes]]
    mutate: Callable[[random.Random, bytes], bytes]
    run: Callable[[bytes, Path], None]
    seconds: float = MOST_SECONDS
    address_space: int = MOST_BYTES

    def seeds(self) -> Sequence[bytes]:
        """What is mutated: files that are right, and those that once failed."""
        return [*self.right(), *past_failures(self.name)]


def past_failures(name: str) -> list[bytes]:
    """Inputs that a kind of file once failed on."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


class Failure(NamedTuple):
    """An input that was not taken well.

    reason: the exception and where it came from, or how the process ended.   message: of the exception.
    """

    index: int
    reason: str
    data: bytes
    message: str = ""


@dataclass
class Outcome:
    """runs: inputs tried.   failures: of the first input of each reason."""

    runs: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, failure: Failure) -> None:
        if failure.reason not in [known.reason for known in self.failures]:
            self.failures.append(failure)


def input_of(harness: Harness, seed: int, index: int, seeds: Sequence[bytes]) -> bytes:
    """The input number `index`, the same whenever and in whatever order it is made."""
    rng = random.Random(f"{harness.name} {seed} {index}")
    return harness.mutate(rng, rng.choice(seeds))


def fuzz(
    harness: Harness,
    folder: Path,
    seed: int = 0,
    runs: int = 0,
    until: float = float("inf"),
    on_run: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Tries `runs` inputs (0: any number), or as many as there is time for.

    folder: for scratch files.   until: of time.monotonic().   on_run: called with the number of runs so far.
    A process that dies takes one input with it: the next process goes on behind it.
    """
    outcome, start = Outcome(), 0
    while (not runs or start < runs) and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = _in_child(harness, folder, seed, (start, runs or None), until, outcome)
        outcome.runs = start
        on_run(start)
    return outcome


def _in_child(
    harness: Harness, folder: Path, seed: int, span: tuple[int, int | None], until: float, outcome: Outcome
) -> int:
    """Inputs from span[0] on, in a forked process: the index behind the last one tried."""
    process = os.fork()
    if not process:
        code = 1
        try:
            _work(harness, folder, seed, span, until)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    done = span[0]
    for record in _records(folder / "records"):
        done = record["index"] + 1
        if record["reason"]:
            data = input_of(harness, seed, record["index"], harness.seeds())
            outcome.add(Failure(record["index"], record["reason"], data, record["message"]))
    code = os.waitstatus_to_exitcode(status)
    if code:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        if code == -signal.SIGALRM:
            how = f"does not end; {_last_words(folder)}"
        outcome.add(Failure(done, how, input_of(harness, seed, done, harness.seeds())))
        return done + 1
    return done


def _records(path: Path) -> Iterator[dict]:
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def _last_words(folder: Path) -> str:
    """Where a process was when the alarm ended it."""
    lines = (folder / "watchdog").read_text().splitlines()
    return next((line.strip() for line in lines if "File" in line), "no more is known")


def _work(harness, folder, seed, span, until):
    """Of the child: a line in `records` for each input."""
    os.setsid()
    scratch = folder / "scratch"
    scratch.mkdir()
    os.chdir(scratch)
    for stream in (1, 2):  # libraries write there past Python
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    if harness.address_space:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + harness.address_space,) * 2)
    seeds = harness.seeds()
    with (
        (folder / "watchdog").open("w") as watchdog,
        (folder / "records").open("w", buffering=1) as records,
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process, also in native code
        faulthandler.register(signal.SIGALRM, file=watchdog, chain=True)
        index = span[0]
        while (span[1] is None or index < span[1]) and time.monotonic() < until:
            data = input_of(harness, seed, index, seeds)
            signal.setitimer(signal.ITIMER_REAL, 2 * harness.seconds)
            reason, message = judge(harness, data, scratch)
            signal.setitimer(signal.ITIMER_REAL, 0)
            records.write(json.dumps({"index": index, "reason": reason, "message": message}) + "\n")
            index += 1


def judge(harness: Harness, data: bytes, scratch: Path) -> tuple[str, str]:
    """(reason, message) of why an input is a failure; empty when it is none."""
    start = time.monotonic()
    try:
        harness.run(data, scratch)
    except KNOWN_ERRORS:
        pass
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in place if "edge_ssd" in frame.filename and "/tests/" not in frame.filename]
        at = (ours or place)[-1]
        return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno} in {at.name}", str(error)[
            :300
        ]
    seconds = time.monotonic() - start
    if seconds > harness.seconds:
        return f"took more than {harness.seconds:.0f} s", f"{seconds:.1f} s"
    return "", ""
