"""Maps from the images of a prepared store: half maps by back-projection, other maps by likelihood."""
