"""What got slower between two reports of `edge-ssd bench`, for the CI of who keeps them.

    python -m benchmarks.compare before.json after.json [--threshold 0.1]

Exit code 1 when a frame rate fell by more than the threshold, beyond the spread of the turns, or a row is gone.
"""

from __future__ import annotations

import argparse
import sys

from edge_ssd.bench.compare import changes, comparable, lost_rows, slower
from edge_ssd.bench.report import read_report


def main(argv=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", metavar="A.json")
    parser.add_argument("after", metavar="B.json")
    parser.add_argument("--threshold", type=_share, default=0.1, metavar="T", help="default: 0.1, a tenth")
    arguments = parser.parse_args(argv)
    try:
        before, after = read_report(arguments.before), read_report(arguments.after)
        found = changes(before, after)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for sentence in comparable(before, after):
        print(f"careful: {sentence}")
    print(f"{'':64s}{'before':>9s}{'after':>9s}{'ratio':>7s}  stages, after by before")
    for change in found:
        stages = ", ".join(f"{stage} {ratio:.2f}" for stage, ratio in change.stages.items())
        noise = " (within the spread)" if change.is_noise else ""
        name = f"{change.model}: {change.row}"
        print(f"{name:64s}{change.before:9.1f}{change.after:9.1f}{change.ratio:7.2f}  {stages}{noise}")
    gone = lost_rows(before, after)
    for name in gone:
        print(f"GONE {name}")
    worse = slower(found, arguments.threshold)
    for change in worse:
        print(f"SLOWER {change.model}: {change.row}: {change.ratio:.2f}x the frame rate of before")
    return 1 if worse or gone else 0


def _share(text):
    """From 0 to below 1: 10, meant as percent, would let everything pass."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, such as 0.1, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
