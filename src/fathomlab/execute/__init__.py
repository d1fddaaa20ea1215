"""Trains jobs: the coordinator gives them to an executor, and events come back."""
