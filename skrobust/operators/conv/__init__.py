"""Convolutional dictionaries as linear operators."""
