"""`python -m edge_ssd.build_engine`, and `python -m build_engine` in a checkout: `edge-ssd build`."""

import sys

from edge_ssd.cli import run_alone
from edge_ssd.commands import build

if __name__ == "__main__":
    sys.exit(run_alone(build, "python -m edge_ssd.build_engine"))
