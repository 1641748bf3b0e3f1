"""From a fitted estimator or Pipeline to a differentiable torch module.

Importing this room does not load torch: that happens at the first call of `as_module`.
"""

import importlib

from ._registry import NoGradientError, register_module

_FILE_OF = {
    "ClassifierModule": "_modules",
    "ClassifierStep": "_modules",
    "Conversion": "_conversion",
    "TransformerModule": "_modules",
    "as_module": "_conversion",
    "as_one_node": "_autograd",
    "with_backward": "_autograd",
}

__all__ = ["NoGradientError", "register_module", *_FILE_OF]


def __getattr__(name):
    if name in _FILE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
