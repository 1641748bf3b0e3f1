"""Convolutional orthogonal matching pursuit and thresholding."""
