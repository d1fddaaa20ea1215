"""Reads experiment files: the schema of every section, positions for messages, overrides."""
