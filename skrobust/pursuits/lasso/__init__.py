"""The lasso over a dense dictionary, and over convolutional dictionaries (`conv`)."""
