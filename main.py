"""The laboratory's command: `python main.py --experiment 1_1 [--device auto|cpu|cuda] [key=value ...]`."""

import sys

from fathomlab.cli import laboratory

if __name__ == "__main__":
    sys.exit(laboratory())
