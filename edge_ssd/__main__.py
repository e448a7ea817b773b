"""`python -m edge_ssd <command>`."""

import sys

from .cli import main

sys.exit(main())
