"""Coders: images to sparse codes."""

from ._ambiguity import AmbiguousShare
from ._conv_sparse_coder import ConvSparseCoder
from ._polarizing import PolarizingCoder
from ._reach import CodeBounds

__all__ = ["AmbiguousShare", "CodeBounds", "ConvSparseCoder", "PolarizingCoder"]
