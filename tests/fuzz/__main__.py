"""`python -m tests.fuzz`, `make fuzz`: mutated files of every kind, until the time is over or so many were tried.

Coverage-guided where Atheris is installed and `--guided` is given; otherwise structured mutations alone. Each failure
is printed once, and its input kept: put it into tests/fuzz/corpus/KIND/ when it is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.harness import Harness, Outcome, fuzz
from tests.fuzz.kinds import ALL


def main() -> int:
    """1 when there was any failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(ALL)}; all by default")
    parser.add_argument("--minutes", type=float, default=10, help="of all kinds together (default: 10)")
    parser.add_argument("--runs", type=int, default=0, help="of each kind, whatever the time it takes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="another one, other inputs")
    parser.add_argument(
        "--guided", action="store_true", help="by coverage, with Atheris: one KIND, cheap ones"
    )
    parser.add_argument("--out", type=Path, default=Path("fuzz_failures"), help="where failing inputs go")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.kinds if name not in ALL]
    if unknown:
        parser.error(f"{unknown[0]}: expected one of {', '.join(ALL)}")
    chosen = [ALL[name] for name in arguments.kinds or ALL]
    if arguments.guided:
        from tests.fuzz.guided import fuzz_guided

        return fuzz_guided(chosen[0], arguments.minutes * 60)
    print(f"seed {arguments.seed}")
    outcomes = [
        _fuzz_one(
            harness, arguments.seed, arguments.runs, arguments.minutes * 60 / len(chosen), arguments.out
        )
        for harness in chosen
    ]
    failures = sum(len(outcome.failures) for outcome in outcomes)
    print(f"{sum(outcome.runs for outcome in outcomes)} runs, {failures} kinds of failure")
    return 1 if failures else 0


def _fuzz_one(harness: Harness, seed: int, runs: int, seconds: float, out: Path) -> Outcome:
    start = time.monotonic()
    until = float("inf") if runs else start + seconds
    with tempfile.TemporaryDirectory() as folder:
        outcome = fuzz(harness, Path(folder) / "work", seed, runs, until, _shows_progress(harness.name))
    rate = outcome.runs / max(time.monotonic() - start, 1e-3)
    print(
        f"\r{harness.name:12s} {outcome.runs:8d} runs, {rate:.0f} a second, {len(outcome.failures)} kinds of failure"
    )
    for failure in outcome.failures:
        folder = out / harness.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / hashlib.sha256(failure.data).hexdigest()[:16]
        path.write_bytes(failure.data)
        print(f"  {failure.reason}: {failure.message!r}\n    {path}")
    return outcome


def _shows_progress(name: str):
    if not sys.stderr.isatty():
        return lambda runs: None
    return lambda runs: print(f"\r{name} {runs}", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
