"""`ConvSparseCoder` and `basis_pursuit` under penalties other than the plain l1 norm."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skrobust import ConvSparseCoder, as_module
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import (
    L1,
    ElasticNet,
    GroupL1,
    Penalty,
    alpha_max,
    basis_pursuit,
    convolutional_basis_pursuit,
)

PENALTIES = [
    "elastic_net",
    "group_l1",
    ElasticNet(0.7, positive=True),
    GroupL1([0, 1, 0, 1], positive=True),
    L1([1.0, 2.0, 1.0, 0.5]),
]


def with_gap(result):
    return result.codes, result.gap


def name(penalty):
    return penalty if isinstance(penalty, str) else type(penalty).__name__


class RoundedL1(Penalty):
    """A user's own penalty, ``sum sqrt(z^2 + 1/100)``; it has no dual here, so solvers stop by their steps."""

    def value(self, codes):
        return ((codes * codes + 0.01) ** 0.5).reshape(len(codes), -1).sum(1)

    def prox(self, values, step):
        codes = values
        for _ in range(60):  # the fixed point of the optimality condition
            codes = values / (1 + step / (codes * codes + 0.01) ** 0.5)
        return codes


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    return X[:40] / 16, y[:40]


def coder_with(penalty, **settings):
    settings = {"alpha": 0.1, "tol": 1e-6, "max_iter": 10_000, **settings}
    dictionary = np.random.default_rng(0).normal(size=(4, 3, 3))
    dictionary /= np.linalg.norm(dictionary.reshape(4, -1), axis=1)[:, None, None]
    return ConvSparseCoder(penalty=penalty, dictionary=dictionary, image_shape=(8, 8), **settings)


@pytest.mark.parametrize("kind", ["arrays", "tensors", "device"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=name)
def test_codes_are_those_of_the_function(images, penalty, kind):
    X, _ = images
    coder = coder_with(penalty, device="cpu" if kind == "device" else None).fit(X)
    operator = ConvolutionalOperator(coder.components_, (8, 8, 1))
    expected = convolutional_basis_pursuit(
        X.reshape(-1, 8, 8, 1), operator, 0.1, penalty=penalty, tol=1e-6, max_iter=10_000
    )
    codes = np.asarray(coder.transform(torch.tensor(X) if kind == "tensors" else X))
    np.testing.assert_allclose(codes, expected.codes.reshape(len(X), -1), atol=1e-10)
    assert coder.score(X) == pytest.approx(-expected.objective.mean(), rel=1e-9)


@pytest.mark.parametrize("penalty", PENALTIES, ids=name)
def test_exact_gradients_are_those_of_differences(images, penalty):
    """Central differences of the compiled coder, which the torch form does not use."""
    X = images[0][:2]
    coder = coder_with(penalty, tol=1e-13, max_iter=100_000).fit(X)
    rng = np.random.default_rng(1)
    weights, direction = rng.normal(size=coder.transform(X).shape), rng.normal(size=X.shape)
    x = torch.tensor(X, requires_grad=True)
    (as_module(coder, gradient="exact")(x) * torch.tensor(weights)).sum().backward()
    step = 1e-5
    ahead, behind = (float((coder.transform(X + s * direction) * weights).sum()) for s in (step, -step))
    assert float((x.grad.numpy() * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


@pytest.mark.parametrize("gradient", ["identity", "projection", "smooth", "skip"])
@pytest.mark.parametrize("penalty", ["group_l1", RoundedL1()], ids=name)
def test_surrogate_gradients(images, penalty, gradient):
    """They only need the proximal operator of the penalty."""
    X = images[0][:3]
    coder = coder_with(penalty, output="reconstruction").fit(X)
    x = torch.tensor(X, requires_grad=True)
    result = as_module(coder, gradient=gradient)(x)
    if gradient != "skip":
        np.testing.assert_allclose(result.detach().numpy(), coder.transform(X), atol=1e-6)
    result.sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()


def test_a_user_defined_penalty_works_in_the_coder(images):
    X, _ = images
    coder = coder_with(RoundedL1(), tol=1e-9).fit(X)
    codes = coder.transform(X)
    operator = ConvolutionalOperator(coder.components_, (8, 8, 1))
    maps = codes.reshape(len(X), 8, 8, 4)
    slopes = operator.analyze(X.reshape(-1, 8, 8, 1) - operator.synthesize(maps))
    np.testing.assert_allclose(0.1 * maps / (maps**2 + 0.01) ** 0.5, slopes, atol=1e-5)
    np.testing.assert_allclose(coder.transform(torch.tensor(X)).numpy(), codes, atol=1e-6)
    with pytest.raises(NotImplementedError, match="RoundedL1 defines no gradient"):
        coder.transform(torch.tensor(X, requires_grad=True))
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        coder_with(RoundedL1(), max_iter=2).fit(X).transform(X)


def test_learning_and_grid_search(images):
    X, y = images
    settings = {"kernel_size": 3, "n_epochs": 2, "image_shape": (8, 8), "random_state": 0}
    plain = ConvSparseCoder(4, **settings).fit(X)
    elastic = ConvSparseCoder(4, penalty=ElasticNet(0.9), **settings).fit(X)
    np.testing.assert_array_equal(elastic.components_, plain.components_)
    copy = clone(elastic)
    assert copy.penalty is not elastic.penalty and copy.penalty.l1_ratio == 0.9
    positive = ConvSparseCoder(4, penalty=ElasticNet(positive=True), **settings).fit(X)
    assert positive.transform(X).min() >= 0
    np.testing.assert_array_equal(
        positive.components_, ConvSparseCoder(4, positive=True, **settings).fit(X).components_
    )
    model = make_pipeline(elastic, LogisticRegression())
    search = GridSearchCV(model, {"convsparsecoder__penalty__l1_ratio": [0.2, 0.8]}, cv=2, error_score="raise")
    search.fit(X, (y > 4).astype(int))
    assert search.best_params_["convsparsecoder__penalty__l1_ratio"] in (0.2, 0.8)


def test_unsupported_combinations_are_refused(images):
    X, _ = images
    for pursuit in ("omp", "thresholding"):
        with pytest.raises(ValueError, match="penalty='group_l1' needs pursuit='bp'"):
            coder_with("group_l1", pursuit=pursuit).fit(X)
    with pytest.raises(ValueError, match=r"positive=True does not go with GroupL1\(groups=\[0, 1, 0, 1\]\)"):
        coder_with(GroupL1([0, 1, 0, 1]), positive=True).fit(X)
    with pytest.raises(ValueError, match="'penalty' parameter"):
        coder_with("l2").fit(X)
    with pytest.raises(ValueError, match="penalty must be one of"):
        basis_pursuit(X, np.eye(64), alpha=0.1, penalty="l2")


DENSE = [
    "elastic_net",
    "group_l1",
    ElasticNet(0.3, positive=True),
    GroupL1(np.arange(20) // 2),
    L1(np.linspace(1, 2, 20)),
]


@pytest.fixture(scope="module")
def dense():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 12)) * np.logspace(-3, 3, 7)[:, None], rng.normal(size=(20, 12))


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("penalty", DENSE, ids=name)
def test_dense_codes_are_fixed_points(dense, penalty, kind):
    """z = prox(z + D^T (x - D z)) holds at the minimum and nowhere else; signals of many sizes, a penalty each."""
    X, components = dense
    alpha = 0.3 * alpha_max(X, components, penalty=penalty) * np.linspace(0.5, 1.5, 7)
    settings = {"alpha": alpha, "penalty": penalty, "tol": 1e-10, "max_iter": 100_000}
    codes, gap = with_gap(basis_pursuit(kind(X), kind(components), sparse_output=False, return_result=True, **settings))
    packed = basis_pursuit(kind(X), kind(components), **settings)
    assert packed.is_sparse if isinstance(packed, torch.Tensor) else isinstance(packed, sparse.csr_array)
    np.testing.assert_array_equal(packed.to_dense() if isinstance(packed, torch.Tensor) else packed.toarray(), codes)
    codes, gap = np.asarray(codes), np.asarray(gap)
    penalty = {"elastic_net": ElasticNet(), "group_l1": GroupL1()}.get(str(penalty), penalty)
    residual = X - codes @ components
    moved = penalty.prox(codes + residual @ components.T, alpha[:, None])
    np.testing.assert_allclose(moved / np.abs(X).max(1)[:, None], codes / np.abs(X).max(1)[:, None], atol=1e-4)
    assert (gap <= 1e-10 * ((residual**2).sum(1) / 2 + alpha * penalty.value(codes))).all()
    above = alpha_max(X, components, penalty=penalty) * (1 + 1e-9)
    assert not basis_pursuit(X, components, alpha=above, penalty=penalty).nnz


def test_dense_penalty_objects_of_the_plain_norm_are_the_name(dense):
    X, components = dense
    named = basis_pursuit(X, components, alpha=0.5, positive=True, tol=1e-3)
    given = basis_pursuit(X, components, alpha=0.5, penalty=L1(positive=True), tol=1e-3)
    np.testing.assert_array_equal(given.toarray(), named.toarray())


@pytest.mark.parametrize("penalty", DENSE, ids=name)
def test_dense_derivatives(dense, penalty):
    X, components = dense[0][2:5], dense[1]
    alpha = 0.3 * alpha_max(X, components, penalty=penalty)
    rng = np.random.default_rng(1)
    weights, *directions = (rng.normal(size=shape) for shape in ((3, 20), X.shape, components.shape))
    directions[0] *= abs(X)

    def value(X, components, weights=weights):
        settings = {"alpha": alpha, "penalty": penalty, "tol": 1e-13, "max_iter": 20_000, "sparse_output": False}
        return (basis_pursuit(X, components, **settings) * weights).sum()

    inputs = [torch.tensor(values, requires_grad=True) for values in (X, components)]
    value(*inputs, weights=torch.tensor(weights)).backward()
    derivative = sum(float((v.grad.numpy() * direction).sum()) for v, direction in zip(inputs, directions, strict=True))
    step = 1e-5
    ahead, behind = (value(X + s * directions[0], components + s * directions[1]) for s in (step, -step))
    assert derivative == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


def test_dense_user_penalty_and_its_warning(dense):
    X, components = dense[0][2:5], dense[1]
    codes, gap = with_gap(
        basis_pursuit(
            X,
            components,
            alpha=0.5,
            penalty=RoundedL1(),
            tol=1e-9,
            max_iter=50_000,
            sparse_output=False,
            return_result=True,
        )
    )
    assert np.isnan(gap).all()
    slopes = (X - codes @ components) @ components.T
    np.testing.assert_allclose(0.5 * codes / (codes**2 + 0.01) ** 0.5, slopes, atol=1e-4)
    with pytest.warns(ConvergenceWarning, match="3 of 3 signals ended at max_iter=3.* with steps that"):
        basis_pursuit(X, components, alpha=0.5, penalty=RoundedL1(), max_iter=3)
