"""Trains packs: recipe, optimisers, schedules, state, loop. It yields snapshots and knows no probe, store or report."""
