"""One file a peer: the same network, data, batch, order and optimizer, written as that peer's own documentation says."""
