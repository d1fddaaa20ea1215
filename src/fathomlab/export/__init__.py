"""Exports of experiments, and trackers that show runs live. Nothing here takes part in training."""
