"""Greedy pursuits: orthogonal matching pursuit, dense and convolutional."""
