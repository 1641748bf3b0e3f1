"""Front ends: images to cleaner images of the same shape."""

from ._wavelet import WaveletSparsifier

__all__ = ["WaveletSparsifier"]
