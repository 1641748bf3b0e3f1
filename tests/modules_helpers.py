"""Fitted estimators, one for each module that computes in its own way."""

import functools
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skrobust import (
    ConvSparseCoder,
    DeepPursuit,
    LayeredBasisPursuit,
    LayeredThresholding,
    MultilayerPursuit,
    PatchDictionaryDenoiser,
    PolarizingCoder,
    WaveletSparsifier,
)
from skrobust.dictionaries import KSVD, MOD

IMAGE = {"image_shape": (8, 8)}


@functools.cache
def digits():
    """Digits on [0, 1], as rows."""
    X, y = load_digits(return_X_y=True)
    X = X[:200] / 16
    X.flags.writeable = False
    return X, y[:200]


def _atoms(*shape):
    atoms = np.random.default_rng(0).normal(size=shape)
    return atoms / np.sqrt((atoms**2).sum(axis=tuple(range(1, len(shape))), keepdims=True))


def _layers():
    return {"dictionaries": [_atoms(4, 3, 3, 1), _atoms(5, 2, 2, 4)], **IMAGE}


def _patches(**params):
    return PatchDictionaryDenoiser(dictionary=_atoms(20, 16), patch_size=4, stride=2, **params, **IMAGE)


def _conv(**params):
    return ConvSparseCoder(dictionary=_atoms(4, 3, 3, 1), tol=1e-5, **params, **IMAGE)


def _polar(dictionary, **params):
    return PolarizingCoder(dictionary, random_state=0, **params, **IMAGE)


TRANSFORMERS = {
    "WaveletSparsifier": lambda: WaveletSparsifier("haar", level=2, n_nonzero_coefs=0.3, clip=(0, 1), **IMAGE),
    "PatchDictionaryDenoiser": lambda: _patches(n_nonzero_coefs=2),
    'PatchDictionaryDenoiser(selection="ols")': lambda: _patches(n_nonzero_coefs=2, selection="ols"),
    "PatchDictionaryDenoiser(noise_std=...)": lambda: _patches(noise_std=0.1),
    'PatchDictionaryDenoiser(dictionary="image")': lambda: PatchDictionaryDenoiser(
        4, dictionary="image", patch_size=4, stride=2, n_nonzero_coefs=1, random_state=0, **IMAGE
    ),
    "PolarizingCoder": lambda: _polar("pixel"),
    'PolarizingCoder(output="reconstruction")': lambda: _polar("haar", output="reconstruction"),
    'PolarizingCoder("learned", output="reconstruction")': lambda: _polar("learned", output="reconstruction"),
    "ConvSparseCoder": lambda: _conv(alpha=0.1, highpass=5.0, pool="max", pool_size=3),
    'ConvSparseCoder(output="reconstruction")': lambda: _conv(alpha=0.1, output="reconstruction"),
    'ConvSparseCoder(pursuit="omp")': lambda: _conv(pursuit="omp", n_nonzero_coefs=4),
    'ConvSparseCoder(pursuit="thresholding")': lambda: _conv(pursuit="thresholding"),
    "LayeredThresholding": lambda: LayeredThresholding(**_layers()),
    "LayeredBasisPursuit": lambda: LayeredBasisPursuit(max_iter=4, **_layers()),
    "LayeredBasisPursuit(tol=...)": lambda: LayeredBasisPursuit(tol=1e-5, max_iter=3000, **_layers()),
    "DeepPursuit": lambda: DeepPursuit(max_iter=4, **_layers()),
    "DeepPursuit(tol=...)": lambda: DeepPursuit(tol=1e-5, max_iter=3000, **_layers()),
    "MultilayerPursuit": lambda: MultilayerPursuit(max_iter=4, **_layers()),
    "KSVD": lambda: KSVD(20, n_nonzero_coefs=3, max_iter=2, random_state=0, **IMAGE),
    'MOD(coding="l1")': lambda: MOD(20, coding="l1", max_iter=2, sparse_output=False, random_state=0, **IMAGE),
    'MOD(coding="ols")': lambda: MOD(20, coding="ols", n_nonzero_coefs=3, max_iter=2, random_state=0, **IMAGE),
}

CLASSIFIERS = {
    "LogisticRegression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "SVC": lambda: make_pipeline(PCA(20, random_state=0), SVC()),
    "GaussianNB": lambda: GaussianNB(var_smoothing=1e-2),
    "MLPClassifier": lambda: MLPClassifier((8,), max_iter=20, random_state=0),
}


@functools.cache
def fitted(name):
    """An estimator of the name, fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {**TRANSFORMERS, **CLASSIFIERS}[name]().fit(*digits())


def transformed(name, X):
    """Output of the estimator for an array, dense."""
    model = fitted(name)
    if name in CLASSIFIERS:
        return model.predict(X)
    result = model.transform(X)
    return result.toarray() if hasattr(result, "toarray") else result
