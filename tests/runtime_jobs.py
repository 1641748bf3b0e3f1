"""Jobs of the tests of processes and threads: ``python runtime_jobs.py MODE``, in a process of its own.

Every estimator, learner and pursuit works in the parent, on threads; then in workers that were started in the given
way. Their results must be equal.
"""

import multiprocessing
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skrobust import pursuits
from skrobust.dictionaries import KSVD, MOD, OnlineDictionaryLearning
from skrobust.estimators import (
    ConvSparseCoder,
    DeepPursuit,
    LayeredBasisPursuit,
    LayeredThresholding,
    MultilayerPursuit,
    PatchDictionaryDenoiser,
    PolarizingCoder,
    WaveletSparsifier,
)
from skrobust.kernels import threads
from skrobust.signals import allowed_threads

RNG = np.random.default_rng(0)
X = RNG.random((12, 64))
IMAGES = X.reshape(12, 8, 8, 1)
ATOMS = RNG.standard_normal((10, 64))
KERNELS = RNG.standard_normal((3, 3, 3, 1))
KERNELS /= np.sqrt((KERNELS**2).sum((1, 2, 3), keepdims=True))
OPERATOR = pursuits.ConvolutionalOperator(KERNELS, (8, 8, 1))
TALL = RNG.random((1, 224, 8, 1))
SHAPE = {"image_shape": (8, 8), "n_jobs": -1}
LAYERS = {**SHAPE, "kernel_size": 3, "n_components": (3, 4), "n_epochs": 1, "random_state": 0}

ESTIMATORS = {
    "wavelet": WaveletSparsifier("haar", n_nonzero_coefs=0.2, **SHAPE),
    "wavelet 1-D": WaveletSparsifier("haar", n_nonzero_coefs=0.2, n_jobs=-1),
    "patch": PatchDictionaryDenoiser(6, patch_size=4, n_nonzero_coefs=2, random_state=0, **SHAPE),
    "polar pixel": PolarizingCoder(**SHAPE),
    "polar filters": PolarizingCoder(KERNELS, **SHAPE),
    "polar dense": PolarizingCoder(ATOMS, **SHAPE),
    **{
        f"conv {by}": ConvSparseCoder(3, kernel_size=3, pursuit=by, n_epochs=1, random_state=0, **how, **SHAPE)
        for by, how in {"bp": {}, "omp": {"n_nonzero_coefs": 3}}.items()
    },
    "l-thr": LayeredThresholding(**LAYERS),
    "l-bp": LayeredBasisPursuit(**LAYERS, max_iter=3),
    "deep": DeepPursuit(**LAYERS, max_iter=3),
    "multilayer": MultilayerPursuit(**LAYERS, max_iter=3),
    "k-svd": KSVD(10, n_nonzero_coefs=2, max_iter=2, random_state=0, n_jobs=-1, sparse_output=False),
    "mod": MOD(10, n_nonzero_coefs=2, max_iter=2, random_state=0, n_jobs=-1, sparse_output=False),
    "online": OnlineDictionaryLearning(
        10, n_nonzero_coefs=2, max_iter=2, random_state=0, n_jobs=-1, sparse_output=False
    ),
}

PURSUITS = {
    "omp": lambda: pursuits.orthogonal_mp(X, ATOMS, n_nonzero_coefs=3, sparse_output=False, n_jobs=-1),
    "masked omp": lambda: pursuits.orthogonal_mp(
        X, ATOMS, n_nonzero_coefs=3, mask=X > 0.1, sparse_output=False, n_jobs=2
    ),
    "bp": lambda: pursuits.basis_pursuit(X, ATOMS, alpha=0.5, n_jobs=-1).toarray(),
    "conv bp": lambda: pursuits.convolutional_basis_pursuit(IMAGES, OPERATOR, 0.2, n_jobs=-1).codes,
    "conv bp in bands": lambda: (
        pursuits.convolutional_basis_pursuit(
            TALL, pursuits.ConvolutionalOperator(KERNELS, TALL.shape[1:]), 0.5, n_jobs=2
        ).codes
    ),
    "conv omp": lambda: pursuits.convolutional_omp(IMAGES, OPERATOR, n_nonzero_coefs=3, n_jobs=-1),
    "spectrum": lambda: pursuits.ConvolutionalOperator(KERNELS, (8, 8, 1), evaluation="fft").analyze(IMAGES, n_jobs=-1),
}

NAMES = [*ESTIMATORS, *PURSUITS]


def result(name):
    warnings.simplefilter("ignore")
    threads.WORTH_A_THREAD = 1  # threads take part in the smallest problem
    if name in PURSUITS:
        return np.asarray(PURSUITS[name]())
    return np.asarray(ESTIMATORS[name].fit(X).transform(X))


class Items:
    """A data set for torch's DataLoader."""

    def __len__(self):
        return len(NAMES)

    def __getitem__(self, i):
        return result(NAMES[i])


def by_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(result, NAMES, chunksize=1)


def by_loader():
    from torch.utils.data import DataLoader

    loader = DataLoader(Items(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    return [np.asarray(item) for item in loader]


def by_loky():
    from joblib import Parallel, delayed

    return Parallel(n_jobs=2, backend="loky")(delayed(result)(name) for name in NAMES)


def by_threads():
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(result, 3 * NAMES))


MODES = {
    "fork": lambda: by_pool("fork"),
    "spawn": lambda: by_pool("spawn"),
    "loader": by_loader,
    "loky": by_loky,
    "threads": by_threads,
}


def main(mode):
    expected = [result(name) for name in NAMES]
    assert threads.helpers.n_threads == allowed_threads() - 1 > 0
    for name, actual, wanted in zip(3 * NAMES, MODES[mode](), 3 * expected, strict=False):
        assert np.array_equal(actual, wanted), name


if __name__ == "__main__":
    main(sys.argv[1])
