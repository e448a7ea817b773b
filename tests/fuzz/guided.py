"""Coverage-guided runs, with Atheris (extra `fuzz`; it has a wheel for Python 3.11)."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

from tests.fuzz.harness import Harness, judge


def fuzz_guided(harness: Harness, seconds: float) -> int:
    """Fuzzes one kind of file; ends at the first failure, which libFuzzer writes to the working folder."""
    folder = Path(tempfile.mkdtemp())
    corpus, scratch = folder / "corpus", folder / "scratch"
    for path in (corpus, scratch):
        path.mkdir()
    for number, data in enumerate(harness.seeds()):
        (corpus / str(number)).write_bytes(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        try:
            return harness.mutate(rng, bytes(data))[:max_size]
        except Exception:  # of what libFuzzer has made itself: not even nearly right
            return atheris.Mutate(data, max_size)

    def run(data: bytes) -> None:
        reason, message = judge(harness, data, scratch)
        if reason:
            raise AssertionError(f"{reason}: {message}")

    atheris.instrument_all()
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds:.0f}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        str(corpus),
    ]
    atheris.Setup(arguments, run, custom_mutator=mutate)
    atheris.Fuzz()
    return 0
