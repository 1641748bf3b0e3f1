"""Linear operators that synthesize signals from codes: convolutional, wavelet, layered."""

from .conv.operator import ConvolutionalOperator
from .layered.dictionary import LayeredDictionary
from .wavelet.basis import WaveletBasis

__all__ = ["ConvolutionalOperator", "LayeredDictionary", "WaveletBasis"]
