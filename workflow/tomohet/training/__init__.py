"""Training of the networks: settings, batches, the training loop and checkpoints."""
