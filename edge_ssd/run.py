"""`python -m edge_ssd.run`: camera to detections."""

import sys

from .cli import run_alone
from .commands import run

if __name__ == "__main__":
    sys.exit(run_alone(run, "python -m edge_ssd.run"))
