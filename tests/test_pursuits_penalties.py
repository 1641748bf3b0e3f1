"""Penalties against their definitions: proximal operators and duals by inequality, derivatives by differences."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skrobust.pursuits.penalties import L1, ElasticNet, GroupL1, Penalty, resolve_penalty

PENALTIES = [
    L1(),
    L1(positive=True),
    L1(weights=np.array([1.0, 2.0, 0.5, 3.0])),
    ElasticNet(0.3),
    ElasticNet(0.7, positive=True),
    GroupL1(),
    GroupL1([3, 1, 3, 1]),
    GroupL1([0, 1, 1, 1], weights=[0.5, 2.0]),
    GroupL1([0, 1, 1, 1], positive=True),
]
NORMS = [penalty for penalty in PENALTIES if not isinstance(penalty, ElasticNet)]


def names(penalty):
    return repr(penalty).replace("\n", "")


@pytest.fixture
def values(rng):
    return rng.normal(size=(6, 3, 4)) * 2


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_prox_minimises_its_objective(penalty, values, rng):
    """The objective is 1-strongly convex: at its minimiser u it grows by half the squared distance, at least."""
    step = 0.7
    best = penalty.prox(values, step)

    def objective(u):
        return ((u - values) ** 2).sum(axis=(1, 2)) / 2 + step * penalty.value(u)

    for size in (1e-3, 0.1, 1, 10):
        for _ in range(20):
            other = best + size * rng.normal(size=best.shape) * (rng.random(size=best.shape) < 0.5)
            other = abs(other) if getattr(penalty, "positive", False) else other
            grows = ((other - best) ** 2).sum(axis=(1, 2)) / 2
            assert (objective(other) >= objective(best) + grows - 1e-12).all()


@pytest.mark.parametrize("penalty", NORMS, ids=names)
def test_dual_norm_is_the_polar(penalty, values, rng):
    correlations = rng.normal(size=values.shape)
    top = penalty.dual_norm(correlations)
    codes = np.abs(values) if getattr(penalty, "positive", False) else values
    products = (correlations * codes).sum(axis=(1, 2))
    assert (products <= top * penalty.value(codes) * (1 + 1e-12)).all()
    # It is attained: at alpha just below, a proximal step from 0 moves; at alpha, none does.
    assert not penalty.prox(correlations, top[:, None, None] * (1 + 1e-12)).any()
    assert penalty.prox(correlations, top[:, None, None] * (1 - 1e-9)).reshape(6, -1).any(axis=1).all()


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_alpha_max_is_where_the_code_becomes_zero(penalty, values):
    top = penalty.alpha_max(values)
    assert not penalty.prox(values, top[:, None, None] * (1 + 1e-12)).any()
    assert penalty.prox(values, top[:, None, None] * (1 - 1e-6)).reshape(6, -1).any(axis=1).all()


@pytest.mark.parametrize("penalty", [p for p in PENALTIES if isinstance(p, ElasticNet)], ids=names)
def test_conjugate_satisfies_fenchels_equality(penalty, values):
    alpha = 0.4
    codes = penalty.prox(values, alpha)
    correlations = values - codes  # a subgradient of alpha g at codes
    products = (correlations * codes).sum(axis=(1, 2))
    np.testing.assert_allclose(alpha * penalty.value(codes) + penalty.conjugate(correlations, alpha), products)


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_derivatives_on_the_support(penalty, values):
    codes = abs(penalty.prox(values, 0.5)) if getattr(penalty, "positive", False) else penalty.prox(values, 0.5)
    direction = np.random.default_rng(1).normal(size=codes.shape) * penalty.support(codes)
    h = 1e-6
    slope = (penalty.value(codes + h * direction) - penalty.value(codes - h * direction)) / (2 * h)
    np.testing.assert_allclose((penalty.gradient(codes) * direction).sum(axis=(1, 2)), slope, atol=1e-7)
    bend = (penalty.gradient(codes + h * direction) - penalty.gradient(codes - h * direction)) / (2 * h)
    np.testing.assert_allclose(penalty.hessian_product(codes, direction), bend, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_tensors_agree_with_arrays(penalty, values, dtype):
    values = values.astype(dtype)
    tensor = torch.tensor(values)
    rtol = 1e-6 if dtype == np.float32 else 1e-14  # some rounding errors
    assert penalty.prox(values, 0.5).dtype == dtype
    codes = penalty.prox(values, 0.5)
    assert penalty.prox(tensor, 0.5).dtype == tensor.dtype
    np.testing.assert_allclose(penalty.prox(tensor, 0.5), codes, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(penalty.value(torch.tensor(codes)), penalty.value(codes), rtol=rtol)
    np.testing.assert_allclose(penalty.alpha_max(tensor), penalty.alpha_max(values), rtol=rtol)


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_prox_is_differentiable_at_zero_groups(penalty):
    z = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    penalty.prox(z, 0.5).sum().backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_parameters_are_those_of_scikit_learn(penalty):
    assert names(clone(penalty)) == names(penalty)


def test_names_stand_for_penalties():
    assert isinstance(resolve_penalty("l1"), L1)
    assert resolve_penalty("l1", positive=True, weights=[1.0, 2.0]).positive
    assert isinstance(resolve_penalty("group_l1"), GroupL1)
    mine = ElasticNet(0.2)
    assert resolve_penalty(mine) is mine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"penalty": "l0"}, r"penalty must be one of \['elastic_net', 'group_l1', 'l1'\] or a Penalty, got 'l0'"),
        ({"penalty": "elastic_net", "weights": [1.0]}, "weights belong to penalty='l1'"),
        ({"penalty": GroupL1(), "positive": True}, r"positive=True does not go with GroupL1\(\)"),
    ],
)
def test_names_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve_penalty(**arguments)


def test_bad_groups_and_ratios_are_refused():
    with pytest.raises(ValueError, match="groups must be 4 integers, one for each atom"):
        GroupL1([0, 1]).value(np.ones((1, 4)))
    with pytest.raises(ValueError, match="weights must be 2 numbers > 0, one for each group"):
        GroupL1([0, 0, 1, 1], weights=[1.0]).value(np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"l1_ratio must lie in \(0, 1\), got 1.5"):
        ElasticNet(1.5).value(np.ones((1, 4)))


def test_a_penalty_needs_value_and_prox():
    with pytest.raises(TypeError, match="abstract"):
        Penalty()
