"""What is decided before training: packs, their cost, what must not have changed, and the jobs. Without torch or processes."""
