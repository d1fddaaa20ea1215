"""Connects the plan with the store: resolves components, runs packs here or in workers, and stores their results."""
