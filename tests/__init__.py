"""Tests of fathomlab. The folders are described in CONTRIBUTING.md."""
