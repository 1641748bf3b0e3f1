"""Convolutional pursuits under every penalty: optimality, gaps, derivatives, and a penalty of a user's own."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import (
    L1,
    ElasticNet,
    GroupL1,
    Penalty,
    convolutional_alpha_max,
    convolutional_basis_pursuit,
    implicit_pursuit,
    unrolled_pursuit,
)

PENALTIES = [
    L1(),
    L1(positive=True),
    L1(weights=np.linspace(0.5, 2, 4 * 6 * 5).reshape(6, 5, 4)),
    ElasticNet(0.6),
    ElasticNet(0.6, positive=True),
    GroupL1(),
    GroupL1([0, 1, 0, 1]),
]


def names(penalty):
    return f"{type(penalty).__name__}-{getattr(penalty, 'positive', False)}-{getattr(penalty, 'groups', None)}"


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    components = rng.normal(size=(4, 2, 2, 2))
    components /= np.sqrt((components**2).sum(axis=(1, 2, 3), keepdims=True))
    return ConvolutionalOperator(components, (6, 5, 2)), rng.normal(size=(3, 6, 5, 2))


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_solutions_are_fixed_points(problem, penalty, with_mask, tensors):
    """z = prox(z + D^T M (x - D z)) holds at the minimum and nowhere else, by an operator made a matrix."""
    operator, X = problem
    mask = np.random.default_rng(1).random((6, 5)) < 0.8 if with_mask else None
    alpha = 0.2 * float(convolutional_alpha_max(X, operator, penalty=penalty, mask=mask).min())
    given = torch.tensor(X) if tensors else X
    result = convolutional_basis_pursuit(given, operator, alpha, penalty=penalty, mask=mask, tol=1e-10, max_iter=20_000)
    assert result.converged.all() and (result.gap <= 1e-10 * result.objective).all()
    codes = np.asarray(result.codes)
    matrix = operator.to_dense()
    residual = (X.reshape(3, -1) - codes.reshape(3, -1) @ matrix.T).reshape(X.shape)
    residual = residual if mask is None else residual * mask[..., None]
    slopes = (residual.reshape(3, -1) @ matrix).reshape(codes.shape)
    np.testing.assert_allclose(penalty.prox(codes + slopes, alpha), codes, atol=2e-4)
    value = (residual**2).sum(axis=(1, 2, 3)) / 2 + alpha * penalty.value(codes)
    np.testing.assert_allclose(result.objective, value, rtol=1e-8)


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_the_gap_is_a_bound_at_every_tolerance(problem, penalty):
    operator, X = problem
    alpha = 0.1 * float(convolutional_alpha_max(X, operator, penalty=penalty).min())
    best = convolutional_basis_pursuit(X, operator, alpha, penalty=penalty, tol=1e-11, max_iter=50_000).objective
    for tol in (1e-1, 1e-2, 1e-3):
        result = convolutional_basis_pursuit(X, operator, alpha, penalty=penalty, tol=tol)
        assert (result.objective - best <= result.gap + 1e-9 * best).all()
        assert (result.objective >= best * (1 - 1e-9)).all()


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_above_alpha_max_codes_are_zero(problem, penalty):
    operator, X = problem
    top = float(convolutional_alpha_max(X[:1], operator, penalty=penalty)[0])
    assert not convolutional_basis_pursuit(X[:1], operator, top * (1 + 1e-9), penalty=penalty).codes.any()
    below = convolutional_basis_pursuit(X[:1], operator, top * 0.99, penalty=penalty, tol=1e-9, max_iter=20_000)
    assert below.codes.any()


def test_groups_are_used_together(problem):
    operator, X = problem
    penalty = GroupL1([0, 1, 0, 1])
    alpha = 0.5 * float(convolutional_alpha_max(X, operator, penalty=penalty).min())
    used = convolutional_basis_pursuit(X, operator, alpha, penalty=penalty, tol=1e-6, max_iter=10_000).codes != 0
    assert 0 < used.mean() < 1
    np.testing.assert_array_equal(used[..., 0], used[..., 2])
    np.testing.assert_array_equal(used[..., 1], used[..., 3])


@pytest.mark.parametrize("penalty", PENALTIES, ids=names)
def test_implicit_and_unrolled_derivatives_agree(problem, penalty):
    operator, X = problem
    alpha = 0.2 * float(convolutional_alpha_max(X, operator, penalty=penalty).min())
    grads = []
    for solve in (
        lambda x, a, op: implicit_pursuit(x, op, a, penalty=penalty, tol=1e-13, max_iter=50_000),
        lambda x, a, op: unrolled_pursuit(x, op, a, penalty=penalty, n_iter=1500),
    ):
        x = torch.tensor(X, requires_grad=True)
        atoms = torch.tensor(operator.components, requires_grad=True)
        strength = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        codes = solve(x, strength, operator.with_components(atoms))
        weights = torch.tensor(np.random.default_rng(2).normal(size=codes.shape))
        (codes * weights).sum().backward()
        grads.append([x.grad.numpy(), atoms.grad.numpy(), strength.grad.numpy()])
    for implicit, unrolled in zip(*grads, strict=True):
        np.testing.assert_allclose(implicit, unrolled, rtol=1e-3, atol=1e-3 * np.abs(unrolled).max())


def test_descent_names_a_solver_that_supports_the_penalty(problem):
    operator, X = problem
    with pytest.raises(ValueError, match="solver='descent' needs penalty='l1' with one weight per.*solver='fista'"):
        convolutional_basis_pursuit(X, operator, 0.1, penalty="group_l1", solver="descent")


class Huberised(Penalty):
    """A user's own: quadratic near 0, l1 beyond; no dual is given, so solvers stop by the size of their steps."""

    def value(self, codes):
        size = abs(codes)
        smooth = (size <= 0.1) * codes * codes / 0.2 + (size > 0.1) * (size - 0.05)
        return smooth.reshape(len(codes), -1).sum(1)

    def prox(self, values, step):
        inner = values / (1 + step / 0.1)
        outer = values - values.clip(-step, step)
        return (abs(inner) <= 0.1) * inner + (abs(inner) > 0.1) * outer


def test_a_user_defined_penalty_stops_by_its_step_size(problem):
    operator, X = problem
    result = convolutional_basis_pursuit(X, operator, 0.5, penalty=Huberised(), tol=1e-8, max_iter=20_000)
    assert np.isnan(result.gap).all() and result.converged.all()
    codes = result.codes
    slopes = operator.analyze(X - operator.synthesize(codes))
    np.testing.assert_allclose(Huberised().prox(codes + slopes, 0.5), codes, atol=1e-5)
    with pytest.warns(ConvergenceWarning, match="max_iter=10"):
        convolutional_basis_pursuit(X, operator, 0.5, penalty=Huberised(), tol=1e-8, max_iter=10)
