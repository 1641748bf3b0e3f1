"""Orthogonal wavelet bases."""
