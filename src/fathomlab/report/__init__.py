"""One page an experiment, read from the store alone: figures, tables, answers. Free of torch and of JavaScript."""
