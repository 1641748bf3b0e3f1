"""From a fitted estimator or Pipeline to a differentiable torch module.

Importing this room does not load torch: that happens at the first call of `as_module`.
"""

import importlib

from .arrays import register_array_front_end
from .registry import NoGradientError, register_module

_FILE_OF = {
    "ClassifierModule": "modules",
    "ClassifierStep": "modules",
    "Conversion": "conversion",
    "FrontEndModule": "front_ends",
    "TransformerModule": "modules",
    "as_module": "conversion",
    "as_one_node": "autograd",
    "with_backward": "autograd",
}

__all__ = ["NoGradientError", "register_array_front_end", "register_module", *_FILE_OF]


def __getattr__(name):
    if name in _FILE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
