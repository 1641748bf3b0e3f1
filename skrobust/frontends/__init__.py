"""Front ends: images to cleaner images of the same shape."""

from ._patch import PatchDictionaryDenoiser
from ._wavelet import WaveletSparsifier

__all__ = ["PatchDictionaryDenoiser", "WaveletSparsifier"]
