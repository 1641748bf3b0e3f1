"""Coders: images to sparse codes."""

from ._ambiguity import AmbiguousShare
from ._conv_sparse_coder import ConvSparseCoder
from ._deep_pursuit import DeepPursuit
from ._layered_basis_pursuit import LayeredBasisPursuit
from ._layered_thresholding import LayeredThresholding
from ._multilayer_pursuit import MultilayerPursuit
from ._polarizing import PolarizingCoder
from ._reach import CodeBounds

__all__ = [
    "AmbiguousShare",
    "CodeBounds",
    "ConvSparseCoder",
    "DeepPursuit",
    "LayeredBasisPursuit",
    "LayeredThresholding",
    "MultilayerPursuit",
    "PolarizingCoder",
]
