"""Linear operators that synthesize signals from codes: convolutional, wavelet, layered."""

from skrobust.operators.conv.operator import ConvolutionalOperator
from skrobust.operators.layered.dictionary import LayeredDictionary
from skrobust.operators.wavelet.basis import WaveletBasis

__all__ = ["ConvolutionalOperator", "LayeredDictionary", "WaveletBasis"]
