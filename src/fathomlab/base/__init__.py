"""Building blocks without dependencies on other packages: errors, hashing, options, files, and tensor axes."""
