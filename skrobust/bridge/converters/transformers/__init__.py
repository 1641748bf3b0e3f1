"""Scalers, decompositions, feature maps and functions."""
