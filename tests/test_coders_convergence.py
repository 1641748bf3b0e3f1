"""Pursuits that fall short of their accuracy: one warning a fit, with the number of images."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import ConvSparseCoder, DeepPursuit, LayeredBasisPursuit, as_module
from skrobust.attacks import PGD
from skrobust.dictionaries import MOD
from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import (
    convolutional_basis_pursuit,
    deep_pursuit,
    layered_basis_pursuit,
    layered_thresholding,
    multilayer_pursuit,
)
from skrobust.signals import convergence_warnings_ignored

_ATOMS = np.random.default_rng(0).normal(size=(4, 3, 3, 1)) / 3
_LAYERS = [_ATOMS, np.random.default_rng(1).normal(size=(3, 3, 3, 4)) / 6]
_SHORT = {"max_iter": 2, "tol": 1e-8}
_CODERS = [
    ConvSparseCoder(dictionary=_ATOMS, alpha=1e-3, **_SHORT),
    LayeredBasisPursuit(dictionaries=_LAYERS, alpha=1e-3, **_SHORT),
    DeepPursuit(dictionaries=_LAYERS, alpha=1e-3, **_SHORT),
]


def _name(coder):
    return type(coder).__name__


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).random((12, 8, 8))


def _convergence_warnings(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]


@pytest.mark.parametrize("coder", _CODERS, ids=_name)
def test_one_warning_a_fit_with_the_number_of_images(coder, X):
    coder = clone(coder).fit(X)
    with config_context(working_memory=0.01):  # many batches
        (message,) = _convergence_warnings(lambda: coder.transform(X))
    assert f"{_name(coder)}: 12 of 12 images" in message and "tol=1e-08" in message
    before = pickle.dumps(coder)
    for again in (coder.transform, lambda X: coder.score(X), lambda X: coder.transform(torch.tensor(X))):
        assert _convergence_warnings(lambda again=again: again(X)) == []
    assert pickle.dumps(coder) == before
    coder.fit(X)
    assert len(_convergence_warnings(lambda: [coder.transform(X), coder.transform(X)])) == 1


@pytest.mark.parametrize("coder", _CODERS, ids=_name)
def test_an_attack_warns_once(coder, X):
    y = np.arange(12) % 2
    front = clone(coder).set_params(image_shape=(8, 8))
    model = make_pipeline(front, LogisticRegression())
    flat = X.reshape(12, -1)
    messages = _convergence_warnings(lambda: model.fit(flat, y))
    messages += _convergence_warnings(lambda: PGD(0.05, n_iter=3).perturb(model, flat, y))
    messages += _convergence_warnings(lambda: model.predict(flat))
    assert len(messages) == 1 and "12 of 12 images" in messages[0]
    module = as_module(copy.deepcopy(front).fit(flat))
    at = torch.tensor(flat)
    assert len(_convergence_warnings(lambda: [module(at), module(at)])) == 1


def test_learned_layers_warn_once(X):
    coder = LayeredBasisPursuit((4, 3, 2), kernel_size=2, alpha=1e-3, n_epochs=1, random_state=0, **_SHORT)
    messages = _convergence_warnings(lambda: [coder.fit(X), coder.transform(X), coder.transform(X)])
    assert len(messages) == 1
    assert messages[0].startswith("LayeredBasisPursuit: 24 of 24 images")  # 12 for each of two layers that read codes


def test_dictionary_learners_warn_once(X):
    learner = MOD(8, coding="l1", alpha=1e-14, max_iter=1, random_state=0)
    signals = X.reshape(12, -1).astype(np.float32)
    learner.fit(signals)
    messages = _convergence_warnings(
        lambda: [learner.transform(signals), learner.transform(signals), learner.atom_usage(signals)]
    )
    assert len(messages) == 1 and messages[0].startswith("MOD: 12 of 12 images ended at max_iter=")


def test_ignoring_warnings_in_one_thread_does_not_affect_others(X):
    """Warnings ignored in one thread are still raised in another."""
    operator = ConvolutionalOperator(_ATOMS, (8, 8, 1))

    def pursue(ignoring):
        if not ignoring:
            return convolutional_basis_pursuit(X[..., None], operator, 1e-3, **_SHORT)
        with convergence_warnings_ignored():
            return convolutional_basis_pursuit(X[..., None], operator, 1e-3, **_SHORT)

    with ThreadPoolExecutor(2) as pool:
        messages = _convergence_warnings(lambda: list(pool.map(pursue, [True, False] * 4)))
    assert len(messages) == 4 and all("12 of 12 signals ended at max_iter=2" in message for message in messages)


@pytest.mark.parametrize("pursuit", [layered_thresholding, layered_basis_pursuit, deep_pursuit, multilayer_pursuit])
def test_layered_pursuits_take_any_real_numbers(pursuit):
    """Penalties are not rounded for integer signals, and lists are accepted."""
    operator = ConvolutionalOperator(_ATOMS, (6, 6, 1))
    layers = LayeredDictionary([operator, ConvolutionalOperator(_LAYERS[1], operator.code_shape)])
    X = np.random.default_rng(0).integers(0, 9, (2, 6, 6, 1))

    def codes(values):
        result = pursuit(values, layers, 0.7)
        return result if isinstance(result, list) else result.codes

    expected = codes(X.astype(float))
    for values in (X, X.astype(np.float16), X.tolist()):
        for one, other in zip(codes(values), expected, strict=True):
            assert one.dtype == np.float64
            np.testing.assert_array_equal(one, other)
    name = "threshold" if pursuit is layered_thresholding else "alpha"
    for wrong in ([0.1, np.nan], None, "ab"):
        with pytest.raises(ValueError, match=f"{name} (of layer|must be)"):
            pursuit(X, layers, wrong)
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        pursuit(X * np.nan, layers, 0.7)
    if pursuit is not layered_thresholding:
        for wrong in (-1, 1.5, "a"):
            with pytest.raises(ValueError, match="max_iter must be an integer >= 0"):
                pursuit(X, layers, 0.7, max_iter=wrong)
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="step of layer 1 must be > 0"):
                pursuit(X, layers, 0.7, step=wrong)
