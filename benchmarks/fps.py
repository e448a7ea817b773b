"""`edge-ssd bench` from a checkout: python -m benchmarks.fps."""

import sys

from edge_ssd.cli import run_alone
from edge_ssd.commands import bench

if __name__ == "__main__":
    sys.exit(run_alone(bench, "python -m benchmarks.fps"))
