"""Side-by-side measurements with peers: equivalence first, then speed, interleaved in one run."""
