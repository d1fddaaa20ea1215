"""Measurements of a pack at a snapshot. To add one: a file with a frozen dataclass and `measure`, and a line in `table.py`.

A probe changes nothing: no optimiser step, no moved batch-norm statistics, no consumed randomness.
"""
