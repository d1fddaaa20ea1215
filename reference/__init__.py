"""Generates the reference pages and the JSON Schema from the code: `python -m reference` (or `make reference`)."""
