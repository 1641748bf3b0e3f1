"""Layered coders: scikit-learn's checks, what they compute, learning, and the bridge."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import (
    ConvSparseCoder,
    DeepPursuit,
    LayeredBasisPursuit,
    LayeredThresholding,
    MultilayerPursuit,
    as_module,
)
from skrobust.dictionaries import ConvolutionalLearner
from skrobust.pursuits import deep_pursuit, layered_basis_pursuit, layered_thresholding, multilayer_pursuit

GRADIENTS = ["exact", "identity", "projection", "smooth", "skip"]
CODERS = [LayeredThresholding, LayeredBasisPursuit, DeepPursuit, MultilayerPursuit]
FUNCTIONS = {
    LayeredThresholding: lambda X, layers: layered_thresholding(X, layers, 0.05),
    LayeredBasisPursuit: lambda X, layers: layered_basis_pursuit(X, layers, 0.05, max_iter=6),
    DeepPursuit: lambda X, layers: deep_pursuit(X, layers, 0.05, max_iter=6),
    MultilayerPursuit: lambda X, layers: multilayer_pursuit(X, layers, 0.05, max_iter=6),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:80] / 16, y[:80]


def penalty_of(cls):
    """Name of the parameter that holds penalties or thresholds."""
    return "threshold" if cls is LayeredThresholding else "alpha"


def coder_for(cls, **parameters):
    settings = {"kernel_size": (3, 3), "n_epochs": 1, "image_shape": (8, 8), "random_state": 0}
    settings[penalty_of(cls)] = 0.05
    if cls is not LayeredThresholding:
        settings["max_iter"] = 6
    return cls((4, 6), **{**settings, **parameters})


@parametrize_with_checks(
    [
        LayeredThresholding((4, 6), n_epochs=1),
        LayeredBasisPursuit((4, 6), n_epochs=1, max_iter=3),
        DeepPursuit((4, 4, 4), n_epochs=1, max_iter=3, padding="same", skip="residual", per_layer=True),
        MultilayerPursuit((4, 6), n_epochs=1, max_iter=3, output="reconstruction"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", CODERS)
def test_codes_are_those_of_the_pursuit(cls, digits):
    X, _ = digits
    coder = coder_for(cls).fit(X)
    expected = FUNCTIONS[cls](X.reshape(-1, 8, 8, 1), coder.layers_)
    for layer_codes, codes in zip(coder.encode(X), expected, strict=True):
        np.testing.assert_allclose(layer_codes, codes, atol=1e-12)
    np.testing.assert_allclose(coder.transform(X), expected[-1].reshape(len(X), -1), atol=1e-12)
    everything = clone(coder).set_params(per_layer=True).fit(X)
    flat = np.concatenate([codes.reshape(len(X), -1) for codes in expected], axis=1)
    np.testing.assert_allclose(everything.transform(X), flat, atol=1e-12)
    assert len(everything.get_feature_names_out()) == flat.shape[1]
    rebuilt = coder.layers_.reconstruct(expected[-1]).reshape(X.shape)
    np.testing.assert_allclose(coder.inverse_transform(coder.transform(X)), rebuilt, atol=1e-12)
    np.testing.assert_allclose(everything.inverse_transform(flat), rebuilt, atol=1e-12)
    front_end = clone(coder).set_params(output="reconstruction").fit(X)
    np.testing.assert_allclose(front_end.transform(X), rebuilt, atol=1e-12)
    again = pickle.loads(pickle.dumps(coder))
    np.testing.assert_array_equal(again.transform(X), coder.transform(X))


def test_no_iterations_is_layered_thresholding(digits):
    X, _ = digits
    plain = coder_for(LayeredThresholding).fit(X)
    for cls in (LayeredBasisPursuit, DeepPursuit):
        coder = coder_for(cls, dictionaries=plain.components_, max_iter=0).fit(X)
        np.testing.assert_allclose(coder.transform(X), plain.transform(X), atol=1e-12)


def test_pursuits_lower_the_objective_that_score_reports(digits):
    X, _ = digits
    atoms = coder_for(LayeredBasisPursuit, n_epochs=3).fit(X).components_
    scores = [
        coder_for(cls, dictionaries=atoms, **more).fit(X).score(X)
        for cls, more in (
            (LayeredThresholding, {}),
            (LayeredBasisPursuit, {"max_iter": 100}),
            (DeepPursuit, {"max_iter": 100}),
        )
    ]
    assert scores[0] < scores[1] < scores[2] < 0


@pytest.mark.parametrize("cls", [LayeredBasisPursuit, DeepPursuit])
def test_to_a_gap(cls, digits):
    X, _ = digits
    coder = coder_for(cls, tol=1e-6, max_iter=5000).fit(X)
    longer = coder_for(cls, dictionaries=coder.components_, max_iter=2000).fit(X)
    assert coder.score(X) == pytest.approx(longer.score(X), rel=1e-4)  # 2000 steps have no gap to end at


def test_dense_layers_strides_and_one_entry_a_layer(digits):
    X, _ = digits
    coder = LayeredBasisPursuit(
        (4, 6, 10),
        kernel_size=((3, 2), 2, None),
        stride=(1, 2, 1),
        alpha=(0.1, 0.05, 0.02),
        image_shape=(8, 8),
        n_epochs=1,
        random_state=0,
    ).fit(X)
    assert coder.code_shapes_ == [(6, 7, 4), (3, 3, 6), (1, 1, 10)]
    assert coder.alphas_ == [0.1, 0.05, 0.02]
    assert [len(o) for o in coder.objectives_] == [1, 1, 1]
    assert list(coder.get_feature_names_out()[:2]) == ["layer3_atom0_y0_x0", "layer3_atom1_y0_x0"]


def test_learning_lowers_the_objective_of_each_layer(digits):
    X, _ = digits
    coder = coder_for(LayeredBasisPursuit, n_epochs=6, tol=1e-4, max_iter=500).fit(X)
    for objectives in coder.objectives_:
        assert objectives[-1] < 0.95 * objectives[0]
    online = coder_for(LayeredBasisPursuit, n_epochs=3, batch_size=20, tol=1e-4, max_iter=500).fit(X)
    assert online.score(X) > coder_for(LayeredBasisPursuit, tol=1e-4, max_iter=500).fit(X).score(X)
    np.testing.assert_array_equal(
        coder.transform(X),
        coder_for(LayeredBasisPursuit, n_epochs=6, tol=1e-4, max_iter=500, n_jobs=1).fit_transform(X),
    )


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("output", ["code", "reconstruction"])
@pytest.mark.parametrize("cls", CODERS)
def test_modules(cls, output, gradient, digits):
    X, _ = digits
    coder = coder_for(cls, output=output).fit(X)
    images = torch.tensor(X[:5], requires_grad=True)
    result = as_module(coder, gradient=gradient)(images)
    if gradient != "skip":
        np.testing.assert_allclose(result.detach(), coder.transform(X[:5]), atol=1e-9)
    (result**2).sum().backward()
    assert images.grad.abs().sum() > 0 and torch.isfinite(images.grad).all()


@pytest.mark.parametrize("cls", CODERS)
@pytest.mark.parametrize("tol", [None, 1e-10])
def test_exact_gradients_are_those_of_differences(cls, tol, digits):
    if tol is not None and cls in (LayeredThresholding, MultilayerPursuit):
        pytest.skip("has no tol")
    X, _ = digits
    more = {} if tol is None else {"tol": tol, "max_iter": 20_000}
    coder = coder_for(cls, **more).fit(X)
    weights = np.random.default_rng(0).normal(size=len(coder.get_feature_names_out()))
    x, direction = X[3:4] + 0.05, np.random.default_rng(1).normal(size=(1, 64))
    images = torch.tensor(x, requires_grad=True)
    (as_module(coder)(images) @ torch.tensor(weights)).sum().backward()
    step = 1e-6
    difference = (coder.transform(x + step * direction) - coder.transform(x - step * direction)) @ weights / (2 * step)
    assert float((images.grad.numpy() * direction).sum()) == pytest.approx(float(difference[0]), rel=1e-5, abs=1e-6)


def test_tensors_and_dtypes(digits):
    X, _ = digits
    for cls in CODERS:
        coder = coder_for(cls).fit(X.astype(np.float32))
        assert coder.components_[0].dtype == np.float32
        codes = coder.transform(X.astype(np.float32))
        assert codes.dtype == np.float32
        tensors = coder.transform(torch.tensor(X, dtype=torch.float32))
        np.testing.assert_allclose(tensors, codes, atol=1e-5)
        on_torch = clone(coder).set_params(device="cpu", dictionaries=coder.components_).fit(X.astype(np.float32))
        np.testing.assert_allclose(on_torch.transform(X.astype(np.float32)), codes, atol=1e-5)


def test_grid_search_over_penalties_of_layers(digits):
    X, y = digits
    model = make_pipeline(coder_for(LayeredBasisPursuit), LogisticRegression())
    grid = {"layeredbasispursuit__alpha": [(0.05, 0.1), (0.1, 0.05), 0.2]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2).fit(X, y)
    assert search.best_score_ > 0.5


def test_very_large_penalties_give_zero_codes(digits):
    X, _ = digits
    for cls in CODERS:
        coder = coder_for(cls, **{penalty_of(cls): 100.0}).fit(X)
        assert not coder.transform(X).any()


@pytest.mark.parametrize("cls", [LayeredBasisPursuit, ConvSparseCoder])
def test_an_interrupted_fit_leaves_the_coder_as_it_was(cls, digits, monkeypatch):
    X, _ = digits
    coder = cls(4, kernel_size=3, n_epochs=2, image_shape=(8, 8), random_state=0).fit(X)
    before = coder.transform(X)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ConvolutionalLearner, "epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        coder.set_params(image_shape=None).fit(X[:, :32])
    coder.set_params(image_shape=(8, 8))
    np.testing.assert_array_equal(coder.transform(X), before)


def test_bad_parameters_are_named(digits):
    X, y = digits
    for parameters, message in [
        ({"kernel_size": (3, 3, 3)}, "kernel_size has 3 entries for the 2 layers"),
        ({"stride": (1, 0)}, "stride must be"),
        ({"alpha": (0.1, -1)}, "alpha must be a number >= 0"),
        ({"learning": "supervised"}, "needs labels y"),
        ({"dictionaries": []}, "dictionaries is empty"),
        ({"dictionaries": [np.ones((2, 3, 3, 2))]}, r"dictionaries\[0\] of shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            coder_for(LayeredBasisPursuit, **parameters).fit(X)
    with pytest.raises(ValueError, match="n_components must be"):
        LayeredBasisPursuit((4, 0)).fit(X)
    with pytest.raises(ValueError, match="y has 3 labels"):
        coder_for(LayeredBasisPursuit, learning="supervised").fit(X, y[:3])
    skipping = coder_for(DeepPursuit, skip="residual", padding="same").set_params(n_components=(4, 4, 4), kernel_size=3)
    with pytest.raises(ValueError, match="set per_layer=True"):
        skipping.fit(X).inverse_transform(skipping.transform(X))


@pytest.mark.parametrize("cls", CODERS)
def test_learning_with_labels(cls, digits, tmp_path):
    X, y = digits
    names = np.array(list("abcdefghij"))[y]
    options = {"learning_rate": 0.03, "checkpoint": tmp_path / "training.pt"}
    coder = coder_for(cls, learning="supervised", n_epochs=30, batch_size=10, training_params=options)
    coder.set_params(**{penalty_of(cls): 0.0}).fit(X, names)
    codes = coder.transform(X)
    scores = codes @ coder.head_coef_.T + coder.head_intercept_
    assert (coder.head_classes_[scores.argmax(axis=1)] == names).mean() > 0.9
    assert len(coder.history_) == 30 and coder.n_iter_ == 30
    penalties = getattr(coder, f"{penalty_of(cls)}s_")
    assert [np.shape(p) for p in penalties] == [(4,), (6,)] and all((np.asarray(p) >= 0).all() for p in penalties)
    again = clone(coder).fit(X, names)  # from its checkpoint, which is complete
    np.testing.assert_allclose(again.transform(X), codes, atol=1e-5)
    np.testing.assert_allclose(as_module(coder)(torch.tensor(X)), codes, atol=1e-5)


def test_learned_steps_norms_and_connections(digits):
    X, y = digits
    options = {"learn_steps": True, "batch_norm": True, "learning_rate": 0.02}
    coder = DeepPursuit(
        (4, 4, 4),
        kernel_size=3,
        padding="same",
        skip="dense",
        learning="supervised",
        alpha=0.0,
        max_iter=4,
        n_epochs=5,
        image_shape=(8, 8),
        training_params=options,
        random_state=0,
    ).fit(X, y)
    assert coder.layers_.skips[2, 0].matrix.shape == (4, 4)
    np.testing.assert_allclose(as_module(coder)(torch.tensor(X)), coder.transform(X), atol=1e-9)
