"""Layered pursuits and coders under penalties other than the plain l1 norm."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from test_pursuits_layered import chain, flat, signals

from skrobust import DeepPursuit, LayeredBasisPursuit, LayeredThresholding, MultilayerPursuit, as_module
from skrobust.pursuits import (
    L1,
    ElasticNet,
    GroupL1,
    Penalty,
    convolutional_basis_pursuit,
    deep_pursuit,
    implicit_deep_pursuit,
    layered_basis_pursuit,
    layered_thresholding,
    multilayer_pursuit,
)
from skrobust.pursuits.penalties.layers import OverLayers

MIXED = ["l1", ElasticNet(0.3, positive=True), "group_l1"]
WEIGHTED = [L1(np.arange(1.0, n + 1), positive=True) for n in (3, 4, 3)]
PENALTIES = ["elastic_net", "group_l1", MIXED, WEIGHTED]
OVER_LAYERS = GroupL1([0, 1, 2, 0, 1, 2, 3, 0, 1, 2], positive=True, over="layers")
JOINT = [*PENALTIES, GroupL1(over="layers", positive=True), OVER_LAYERS]


def name(penalty):
    return repr(penalty).replace("\n", "")[:40] if isinstance(penalty, Penalty) else str(penalty)[:12]


@pytest.fixture(scope="module")
def problem():
    layers = chain(3, grid=(4, 3))
    return layers, signals(layers, n=2)


def gathered(codes):
    return torch.cat([w.flatten(1) for w in codes], dim=1)


@pytest.mark.parametrize("penalty", PENALTIES, ids=name)
@pytest.mark.parametrize("pursue", [layered_thresholding, layered_basis_pursuit, multilayer_pursuit, deep_pursuit])
def test_arrays_and_tensors_agree(problem, pursue, penalty):
    layers, X = problem
    options = {} if pursue is layered_thresholding else {"max_iter": 7}
    codes = pursue(X, layers, 0.1, penalty=penalty, **options)
    tensors = pursue(torch.tensor(X), layers, 0.1, penalty=penalty, **options)
    np.testing.assert_allclose(gathered(tensors), flat(codes), atol=1e-12)
    assert (flat(codes) != flat(pursue(X, layers, 0.1, **options))).any()


@pytest.mark.parametrize("penalty", PENALTIES, ids=name)
def test_a_cascade_is_one_pursuit_after_the_other(problem, penalty):
    layers, X = problem
    options = {"tol": 1e-8, "max_iter": 5000}
    codes = layered_basis_pursuit(X, layers, 0.1, penalty=penalty, **options)
    each = penalty if isinstance(penalty, list) else [penalty] * 3
    for j, of_layer in enumerate(each):
        operator, target = layers.operators[j], layers.target(j, X, codes)
        alone = convolutional_basis_pursuit(target, operator, 0.1, penalty=of_layer, positive=True, **options).codes
        np.testing.assert_allclose(codes[j], alone, atol=1e-12)
    (thresholded, *_) = layered_thresholding(X, layers, 0.1, penalty=[L1(positive=True), *each[1:]])
    np.testing.assert_allclose(thresholded, (layers.operators[0].analyze(X) - 0.1).clip(0), atol=1e-12)


@pytest.mark.parametrize("penalty", JOINT, ids=name)
def test_deep_pursuit_minimises_one_objective(problem, penalty):
    """Its codes are a fixed point of a proximal step for all layers at once; the gap certifies the objective."""
    layers, X = problem
    options = {"penalty": penalty, "return_result": True}
    result = deep_pursuit(X, layers, 0.1, tol=1e-8, max_iter=5000, **options)
    assert result.converged.all() and (result.gap <= 1e-8 * result.objective).all()
    rows = np.concatenate([w.reshape(2, -1) for w in result.codes], axis=1)
    slopes = layers.analyze(layers.stacked_signals(X) - layers.synthesize(rows))
    moved = layers.split(rows + slopes)
    if isinstance(penalty, GroupL1):
        moved = layers.split(OverLayers(penalty, layers.code_shapes).prox(rows + slopes, 0.1))
    else:
        named = {"elastic_net": ElasticNet(positive=True), "group_l1": GroupL1(positive=True), "l1": L1(positive=True)}
        each = penalty if isinstance(penalty, list) else [penalty] * 3
        moved = [named.get(str(one), one).prox(values, 0.1) for one, values in zip(each, moved, strict=True)]
    np.testing.assert_allclose(flat(moved), rows, atol=1e-3)
    loose = deep_pursuit(X, layers, 0.1, tol=1e-2, **options)
    assert (loose.objective - result.objective <= loose.gap).all()
    steps = deep_pursuit(X, layers, 0.1, max_iter=500, **options)
    np.testing.assert_allclose(steps.objective, result.objective, rtol=1e-6)


@pytest.mark.parametrize("penalty", JOINT, ids=name)
def test_implicit_and_unrolled_derivatives_agree(problem, penalty):
    layers, X = problem
    weights = torch.linspace(-1, 1, layers.code_shape[0], dtype=torch.float64)
    gradients = []
    to_gap = {"tol": 1e-10, "max_iter": 3000}
    for solve, options in ((implicit_deep_pursuit, to_gap), (deep_pursuit, {"max_iter": 300})):
        x = torch.tensor(X, requires_grad=True)
        codes = gathered(solve(x, layers, 0.1, penalty=penalty, **options))
        gradients.append(torch.autograd.grad((codes * weights).sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_groups_over_layers_share_their_support(problem):
    layers, X = problem
    codes = deep_pursuit(X, layers, 0.3, penalty=GroupL1(OVER_LAYERS.groups, over="layers"), positive=False, tol=1e-7,
                         max_iter=5000)  # fmt: skip
    used = [np.abs(w) > 1e-12 for w in codes]
    assert 0.05 < used[0].mean() < 0.95
    for k in range(3):  # atoms of three layers in a group
        np.testing.assert_array_equal(used[0][..., k], used[1][..., k])
        np.testing.assert_array_equal(used[0][..., k], used[2][..., k])


def test_the_prox_over_layers_is_that_of_the_groups(problem):
    layers, _ = problem
    penalty, plain = OverLayers(GroupL1(over="layers"), layers.code_shapes), GroupL1()
    rows = np.random.default_rng(0).normal(size=(2, *layers.code_shape))
    maps = np.concatenate(layers.split(rows), axis=-1)
    np.testing.assert_allclose(penalty.value(rows), plain.value(maps))
    np.testing.assert_allclose(np.concatenate(layers.split(penalty.prox(rows, 0.5)), axis=-1), plain.prox(maps, 0.5))
    np.testing.assert_allclose(penalty.prox(torch.tensor(rows), 0.5), penalty.prox(rows, 0.5), atol=1e-12)
    np.testing.assert_allclose(penalty.dual_norm(rows), plain.dual_norm(maps))


class NoDual(L1):
    def dual_norm(self, correlations):
        return None


def test_unsupported_combinations_are_refused(problem):
    layers, X = problem
    over = GroupL1(over="layers")
    for pursue in (layered_thresholding, layered_basis_pursuit, multilayer_pursuit):
        with pytest.raises(ValueError, match="codes all layers together: deep_pursuit or DeepPursuit"):
            pursue(X, layers, 0.1, penalty=over, positive=False)
    with pytest.raises(ValueError, match="one penalty and one alpha for all layers"):
        deep_pursuit(X, layers, [0.1, 0.2, 0.1], penalty=over, positive=False)
    with pytest.raises(ValueError, match=r"the same grid of positions, got \(6, 5\), \(5, 4\)"):
        deep_pursuit(np.zeros((1, 7, 6, 2)), chain(2, padding="valid"), 0.1, penalty=over, positive=False)
    with pytest.raises(ValueError, match="penalty has 2 entries for 3 layers"):
        deep_pursuit(X, layers, 0.1, penalty=["l1", "l1"])
    with pytest.raises(ValueError, match="alpha of layer 1 has a value per atom, which needs penalty='l1'"):
        deep_pursuit(X, layers, [np.ones(3), 0.1, 0.1], penalty="elastic_net")
    with pytest.raises(ValueError, match="positive=True does not go with ElasticNet"):
        layered_basis_pursuit(X, layers, 0.1, penalty=ElasticNet())
    with pytest.raises(ValueError, match="use tol=None, or layered_basis_pursuit"):
        deep_pursuit(X, layers, 0.1, penalty=NoDual(positive=True), tol=1e-3)


# The coders.


@pytest.fixture(scope="module")
def images():
    return load_digits().data[:30] / 16


def coder_with(cls, penalty, **options):
    rng = np.random.default_rng(0)
    dictionaries = [rng.normal(size=(3, 3, 3)), rng.normal(size=(4, 2, 2, 3))]
    dictionaries = [atoms / np.linalg.norm(atoms.reshape(len(atoms), -1), axis=1).max() for atoms in dictionaries]
    strength = "threshold" if cls is LayeredThresholding else "alpha"
    settings = {"padding": "same", "image_shape": (8, 8), strength: 0.1, "per_layer": True}
    return cls(dictionaries=dictionaries, penalty=penalty, **{**settings, **options})


CASES = [
    *((cls, penalty, {}) for cls in (LayeredThresholding, MultilayerPursuit) for penalty in ("group_l1", MIXED[:2])),
    *((LayeredBasisPursuit, penalty, {"tol": tol}) for penalty in ("group_l1", MIXED[:2]) for tol in (None, 1e-6)),
    *(
        (DeepPursuit, penalty, {"tol": tol})
        for penalty in ("elastic_net", MIXED[:2], GroupL1(over="layers", positive=True))
        for tol in (None, 1e-6)
    ),
]


@pytest.mark.parametrize(("cls", "penalty", "options"), CASES)
def test_arrays_modules_and_gradients_agree(images, cls, penalty, options):
    X = images[:2]
    settings = {} if cls is LayeredThresholding else {"max_iter": 2000 if options.get("tol") else 10}
    coder = coder_with(cls, penalty, **settings, **options).fit(X)
    codes = coder.transform(X)
    x = torch.tensor(X, requires_grad=True)
    result = as_module(coder, gradient="exact")(x)
    np.testing.assert_allclose(result.detach().numpy(), codes, atol=1e-12)
    assert coder.score(X) < 0
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert gradient.isfinite().all() and gradient.any()
    if options.get("tol") is None:  # the derivative by differences of the compiled coder, in one direction
        direction = np.random.default_rng(1).normal(size=X.shape)
        ahead, behind = (coder.transform(X + s * direction).sum() for s in (1e-6, -1e-6))
        assert float((gradient.numpy() * direction).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-3)
    for mode in ("identity", "projection", "smooth"):
        module = as_module(coder, gradient=mode)
        (surrogate,) = torch.autograd.grad(module(x).sum(), x)
        assert surrogate.isfinite().all() and surrogate.any()


def test_learning_under_penalties(images):
    settings = {"n_components": (3, 4), "kernel_size": 2, "padding": "same", "n_epochs": 1, "image_shape": (8, 8)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for penalty in (["l1", "group_l1"], GroupL1(np.arange(7) % 3, positive=True, over="layers")):
            coder = DeepPursuit(penalty=penalty, random_state=0, **settings).fit(images)
            assert coder.transform(images).any()
    with pytest.raises(ValueError, match="learning='supervised' needs penalty='l1', got 'group_l1'"):
        DeepPursuit(penalty="group_l1", learning="supervised").fit(images, np.arange(30) % 2)
    with pytest.raises(ValueError, match="penalty has 3 entries for the 2 layers"):
        DeepPursuit(penalty=["l1"] * 3, **settings).fit(images)
    with pytest.raises(ValueError, match="deep_pursuit or DeepPursuit"):
        coder_with(LayeredBasisPursuit, GroupL1(over="layers", positive=True)).fit(images)
