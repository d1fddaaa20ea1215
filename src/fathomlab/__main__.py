"""`python -m fathomlab` is the command `fathomlab`."""

from fathomlab.cli import main

main()
