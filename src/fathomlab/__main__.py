"""`python -m fathomlab` is the command `fathomlab`."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]  # a file `statistics.py` in the working directory must not replace a module of Python

from fathomlab.cli import main

main()
