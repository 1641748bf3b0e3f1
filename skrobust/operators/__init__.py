"""Linear operators that map codes to signals: dense, convolutional, wavelet, layered."""

from .base import ComposedOperator, Operator
from .conv.operator import ConvolutionalOperator
from .dense import DenseOperator
from .layered.dictionary import LayeredDictionary
from .wavelet.basis import WaveletBasis

__all__ = [
    "ComposedOperator",
    "ConvolutionalOperator",
    "DenseOperator",
    "LayeredDictionary",
    "Operator",
    "WaveletBasis",
]
