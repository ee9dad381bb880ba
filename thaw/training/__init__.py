"""A phase: batches, learning rate, optimizer, loop, records."""
