"""The lasso over one dense dictionary, and over convolutional ones (`conv`)."""
