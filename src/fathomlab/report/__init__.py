"""One HTML page per experiment, generated only from the results directory. Needs neither torch nor JavaScript."""
