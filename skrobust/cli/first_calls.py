"""The calls whose kernels ``skrobust warmup`` compiles: every public estimator and pursuit, on small random images."""

import os
import warnings

import numpy as np


def _images(dtype, *shape):
    return np.random.default_rng(0).random(shape, dtype=dtype)


def _wavelet(dtype):
    from skrobust import WaveletSparsifier
    from skrobust.operators import WaveletBasis

    for shape in (8, 8), (16,):
        images = _images(dtype, 4, *shape)
        WaveletSparsifier("haar").fit_transform(images)
        basis = WaveletBasis("haar", shape, 1)
        basis.synthesize(basis.analyze(images[..., np.newaxis]))


def _patch(dtype):
    from skrobust import PatchDictionaryDenoiser
    from skrobust.dictionaries import KSVD, MOD, OnlineDictionaryLearning

    for dictionary in "training", "image":
        PatchDictionaryDenoiser(patch_size=4, dictionary=dictionary, random_state=0).fit_transform(
            _images(dtype, 2, 12, 12)
        )
    for learner in KSVD(16), MOD(16), OnlineDictionaryLearning(16, coding="l1"):
        learner.set_params(max_iter=1, random_state=0).fit_transform(_images(dtype, 100, 8))


def _conv(dtype):
    from skrobust import ConvSparseCoder, DeepPursuit, LayeredBasisPursuit, LayeredThresholding, MultilayerPursuit

    images = _images(dtype, 4, 12, 12)
    for pursuit, k in ("bp", None), ("omp", 2), ("thresholding", None):
        coder = ConvSparseCoder(4, kernel_size=4, pursuit=pursuit, n_nonzero_coefs=k, max_iter=20)
        coder.set_params(n_epochs=1, random_state=0).fit_transform(images)
    for layers in LayeredBasisPursuit, LayeredThresholding, DeepPursuit, MultilayerPursuit:
        layers((4, 4), kernel_size=3, n_epochs=1, random_state=0).fit_transform(images)


def _polar(dtype):
    from skrobust import PolarizingCoder

    images = _images(dtype, 4, 12, 12)
    for dictionary in "pixel", "learned":
        coder = PolarizingCoder(dictionary, random_state=0).fit(images)
        coder.transform(images)
        coder.code_bounds(images, 0.1)


def _pursuits(dtype):
    from skrobust.pursuits import basis_pursuit, orthogonal_mp, orthogonal_mp_gram

    signals, atoms = _images(dtype, 20, 8), _images(dtype, 16, 8)
    orthogonal_mp(signals, atoms, n_nonzero_coefs=2)
    orthogonal_mp(signals, atoms, n_nonzero_coefs=2, mask=signals > 0.2)
    orthogonal_mp_gram(atoms @ atoms.T, signals @ atoms.T, n_nonzero_coefs=2)
    basis_pursuit(signals, atoms, alpha=0.1)


# Each is one task, because the calls of a family share kernels. The longest comes first.
FAMILIES = {"conv": _conv, "patch": _patch, "wavelet": _wavelet, "pursuits": _pursuits, "polar": _polar}


def compile_family(name, dtype):
    """Make the calls of a family, in a process of `skrobust warmup`."""
    os.environ["SKROBUST_COMPILE_NOTICE"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pursuits, whose few iterations do not converge
        FAMILIES[name](np.dtype(dtype))
