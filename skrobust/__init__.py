"""Sparse coding with the scikit-learn API, for robust image classifiers, with attacks and certificates.

Importing the package loads neither torch nor matplotlib nor numba: each public name is imported when it is first used.
"""

import importlib

__version__ = "0.1.0"

_ROOM_OF = {
    "AdaptiveSparsity": "estimators",
    "ConvSparseCoder": "estimators",
    "DeepPursuit": "estimators",
    "LayeredBasisPursuit": "estimators",
    "LayeredThresholding": "estimators",
    "MultilayerPursuit": "estimators",
    "PatchDictionaryDenoiser": "estimators",
    "PolarizingCoder": "estimators",
    "TorchClassifier": "estimators",
    "WaveletSparsifier": "estimators",
    "as_module": "bridge",
}

__all__ = ["__version__", *_ROOM_OF]


def __getattr__(name):
    if name in _ROOM_OF:
        return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
