"""What the records say: intervals, contrasts, verdicts. Free of torch."""
