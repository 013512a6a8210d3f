"""The configuration, the tree of rounds it describes, the particle table and queries on it."""
