"""Trains packs: recipe, optimizers, schedules, state, loop. It yields snapshots and knows no probe, store or report."""
