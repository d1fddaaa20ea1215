"""Trains packs: state, steps, loop, and snapshots. It does not depend on the store or on reports."""
