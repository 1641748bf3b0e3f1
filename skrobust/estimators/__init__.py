"""Front ends (image to cleaner image), coders (image to sparse code), and classifiers."""

import importlib

_FILE_OF = {
    "AdaptiveSparsity": "classifiers.adaptive_sparsity",
    "AmbiguousShare": "polar.ambiguity",
    "CodeBounds": "polar.bounds",
    "ConvSparseCoder": "conv.coder",
    "DeepPursuit": "layered.deep_pursuit",
    "LayeredBasisPursuit": "layered.basis_pursuit",
    "LayeredThresholding": "layered.thresholding",
    "MultilayerPursuit": "layered.multilayer_pursuit",
    "PatchDictionaryDenoiser": "patch.denoiser",
    "PolarizingCoder": "polar.coder",
    "SparsitySweep": "classifiers.sweep",
    "TorchClassifier": "classifiers.torch_classifier",
    "WaveletSparsifier": "wavelet.sparsifier",
    "sparsity_sweep": "classifiers.sweep",
}

__all__ = list(_FILE_OF)


def __getattr__(name):
    if name in _FILE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
