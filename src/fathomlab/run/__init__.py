"""Joins the plan to the store: resolves parts, runs packs here or in workers, and keeps what they find."""
