"""What the models learn from: images from files, sequences from a seed."""
