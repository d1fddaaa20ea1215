"""Measurements of a pack. To add one: a file with a frozen dataclass and `measure`, and its lines in `table.py` and `columns.py`.

A probe changes nothing: no optimizer step, no moved batch-norm statistics, no consumed randomness. Its `measure` gives
tensors whose first axis is the replica, and plain values that all replicas share. torch is loaded by measuring alone, so
that plans can read the options.
"""
