"""Training of the networks: settings, batches, the loop, checkpoints."""
