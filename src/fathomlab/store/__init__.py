"""The results of experiments on disk: trial directories, records, checkpoints."""
