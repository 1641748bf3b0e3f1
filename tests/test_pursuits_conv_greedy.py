"""Convolutional matching pursuit against scikit-learn's on the dense dictionary, and its local stopping rule."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import orthogonal_mp
from test_pursuits_conv_operator import PADDINGS, dense_dictionary

from skrobust.dictionaries import stripe_sparsity
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_omp, convolutional_thresholding


def make_problem(padding="same", dtype=np.float64, shape=(9, 8, 1), kernel=(3, 3), n_atoms=5, stride=1):
    rng = np.random.default_rng(0)
    operator = ConvolutionalOperator(
        rng.normal(size=(n_atoms, *kernel, shape[-1])).astype(dtype), shape, padding=padding, stride=stride
    )
    return operator, rng.normal(size=(3, *shape)).astype(dtype)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
def test_equals_scikit_learn_on_the_dense_dictionary(padding, with_mask):
    operator, X = make_problem(padding)
    mask = np.random.default_rng(1).random((9, 8, 1)) < 0.8 if with_mask else np.ones((9, 8, 1), dtype=bool)
    D = dense_dictionary(operator.components, operator.signal_shape, padding, 1)[mask.ravel()]
    norms = np.linalg.norm(D, axis=0)
    unit = D / np.where(norms > 0, norms, 1)
    expected = orthogonal_mp(unit, X.reshape(3, -1).T[mask.ravel()], n_nonzero_coefs=8).T
    codes = convolutional_omp(X, operator, n_nonzero_coefs=8, mask=mask if with_mask else None).reshape(3, -1)
    # Columns of one pixel are the same for all atoms: the approximation is unique, the code is not.
    np.testing.assert_allclose(codes @ D.T, expected @ unit.T, atol=1e-8)
    assert ((codes != 0).sum(axis=1) == 8).all()
    if padding in ("valid", "circular") and not with_mask:
        np.testing.assert_allclose(codes, expected / norms, atol=1e-8)


def test_float32_and_threads():
    operator, X = make_problem(dtype=np.float32)
    exact = ConvolutionalOperator(operator.components.astype(float), operator.signal_shape)
    codes = convolutional_omp(X, operator, n_nonzero_coefs=6, n_jobs=2)
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, convolutional_omp(X.astype(float), exact, n_nonzero_coefs=6), atol=1e-4)
    np.testing.assert_array_equal(codes, convolutional_omp(X, operator, n_nonzero_coefs=6, n_jobs=1))


@pytest.mark.parametrize(("length", "kernel", "stride"), [(5, 2, 2), (11, 4, 3), (13, 5, 2), (7, 6, 3)])
def test_stripes_on_a_circle_that_no_stride_divides(length, kernel, stride):
    """Around the end, positions are closer than a stride: more atoms overlap there."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(3, kernel, 1))
    operator = ConvolutionalOperator(atoms, (length, 1), padding="circular", stride=stride)
    X = rng.normal(size=(40, length, 1))
    pixels = [{(p * stride + t) % length for t in range(kernel)} for p in range(operator.code_shape[0])]
    overlap = np.array([[bool(a & b) for b in pixels] for a in pixels])
    for max_atoms in (1, 2):
        for codes in (
            convolutional_omp(X, operator, stripe_sparsity=max_atoms),
            convolutional_thresholding(X, operator, 0.01, stripe_sparsity=max_atoms),
        ):
            stripes = (codes != 0).sum(axis=-1) @ overlap
            assert stripes.max() == max_atoms


@pytest.mark.parametrize("padding", ["same", "circular"])
@pytest.mark.parametrize("most", [1, 3])
def test_no_stripe_holds_more_than_allowed(padding, most):
    operator, X = make_problem(padding, shape=(14, 13, 1))
    codes = convolutional_omp(X, operator, stripe_sparsity=most)
    n_atoms = (codes != 0).sum(axis=-1)
    mode = "wrap" if padding == "circular" else "constant"
    fullest = 0
    for image in n_atoms:
        padded = np.pad(image, 2, mode=mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).sum(axis=(2, 3))
        assert windows.max() <= most
        fullest = max(fullest, windows.max())
    assert fullest == most
    assert n_atoms.sum() > 3 * most  # many stripes hold some


def test_stops_at_the_residual():
    operator, X = make_problem()
    tol = 0.5 * np.linalg.norm(X[0])
    codes = convolutional_omp(X[:1], operator, tol=tol)
    residual = np.linalg.norm(X[:1] - operator.synthesize(codes))
    assert residual <= tol
    fewer = convolutional_omp(X[:1], operator, n_nonzero_coefs=int((codes != 0).sum()) - 1)
    assert np.linalg.norm(X[:1] - operator.synthesize(fewer)) > tol
    with pytest.warns(ConvergenceWarning, match="above tol=0.01"):
        convolutional_omp(X, operator, tol=0.01, n_nonzero_coefs=2)


def test_recovers_planted_codes_and_zero():
    operator, _ = make_problem("full", shape=(20, 20, 1), kernel=(4, 4))
    codes = np.zeros((1, *operator.code_shape))
    codes[0, 3, 4, 0], codes[0, 15, 7, 2], codes[0, 10, 18, 4] = 1, -2, 0.5
    np.testing.assert_allclose(convolutional_omp(operator.synthesize(codes), operator, tol=1e-9), codes, atol=1e-9)
    assert not convolutional_omp(np.zeros((1, 20, 20, 1)), operator).any()


def test_thresholding_is_a_layer():
    operator, X = make_problem()
    codes = convolutional_thresholding(X, operator, 0.7)
    correlations = operator.analyze(X)
    np.testing.assert_allclose(codes, np.sign(correlations) * np.maximum(np.abs(correlations) - 0.7, 0), atol=1e-12)
    weight = torch.as_tensor(operator.components).movedim(-1, 1)
    bias = -torch.linspace(0.1, 1, 5, dtype=torch.float64)
    layer = torch.nn.functional.conv2d(torch.as_tensor(X).movedim(-1, 1), weight, bias, padding=1).relu().movedim(1, -1)
    np.testing.assert_allclose(convolutional_thresholding(X, operator, -bias.numpy(), positive=True), layer, atol=1e-12)
    on_tensors = convolutional_thresholding(torch.as_tensor(X), operator, -bias, positive=True)
    np.testing.assert_allclose(on_tensors, layer, atol=1e-12)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("padding", "stride"), [*((p, 1) for p in PADDINGS), ("full", 2), ("circular", 2)])
@pytest.mark.parametrize("most", [1, 3, 1000])
def test_thresholding_stops_before_a_stripe_is_overfull(most, padding, stride, positive):
    operator, X = make_problem(padding, shape=(8, 6, 2), kernel=(3, 2), n_atoms=3, stride=stride)
    thresholds = np.array([0.1, 0.5, 0.0])
    codes = convolutional_thresholding(X, operator, thresholds, positive=positive, stripe_sparsity=most)
    correlations = operator.analyze(X)
    excess = (correlations if positive else np.abs(correlations)) - thresholds
    for code, seen, over in zip(codes, correlations, excess, strict=True):  # one after the other
        selected, first_excluded = np.zeros(over.shape, dtype=bool), 0.0
        for at in np.argsort(-over, axis=None):
            if over.flat[at] <= 0:
                break
            selected.flat[at] = True
            circle = {"circular": True, "grid": (8, 6)} if padding == "circular" else {}
            fullest = stripe_sparsity(selected[None], (3, 2), stride=stride, **circle)[0]
            if fullest > most:
                first_excluded = over.flat[at]
                break
        np.testing.assert_allclose(code, np.sign(seen) * np.maximum(over - first_excluded, 0), atol=1e-12)
    values = torch.as_tensor(X).requires_grad_()

    def on_tensors(values):
        return convolutional_thresholding(values, operator, thresholds, positive=positive, stripe_sparsity=most)

    np.testing.assert_allclose(on_tensors(values).detach(), codes, atol=1e-12)
    if most == 3:
        assert torch.autograd.gradcheck(on_tensors, values)


def test_rounding_never_exceeds_the_stripe_sparsity():
    operator, X = make_problem(dtype=np.float32, shape=(12, 13, 1), n_atoms=7)
    codes = convolutional_thresholding(X, operator, 0.3, stripe_sparsity=4)
    assert codes.dtype == np.float32
    assert (stripe_sparsity(codes, 3) == 4).any() and (stripe_sparsity(codes, 3) <= 4).all()
    assert convolutional_thresholding(X[:0], operator, 0.3, stripe_sparsity=4).shape == (0, 12, 13, 7)
    # (1 + 2**-23 - 2**-24) + 2**-24 is 1 in single precision: the least threshold that leaves none is not reached.
    pair = ConvolutionalOperator(np.ones((2, 1, 1), np.float32), (1, 1))
    odd = np.full((1, 1, 1), 1 + 2.0**-23, np.float32)
    assert not convolutional_thresholding(odd, pair, 2.0**-24, stripe_sparsity=1).any()


def test_thresholding_errors():
    operator, X = make_problem()
    for wrong in (-1.0, np.nan, np.ones(3), [[1.0]]):
        with pytest.raises(ValueError, match="threshold must be a number >= 0, or 5 of them"):
            convolutional_thresholding(X, operator, wrong)
    with pytest.raises(ValueError, match="stripe_sparsity must be"):
        convolutional_thresholding(X, operator, 1.0, stripe_sparsity=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_nonzero_coefs": 0}, "n_nonzero_coefs must be"),
        ({"stripe_sparsity": 0.5}, "stripe_sparsity must be"),
        ({"tol": -1.0}, "tol must be"),
    ],
)
def test_errors(change, message):
    operator, X = make_problem()
    with pytest.raises(ValueError, match=message):
        convolutional_omp(X, operator, **change)
    with pytest.raises(ValueError, match="X must have shape"):
        convolutional_omp(X[:, 1:], operator)
    with pytest.raises(TypeError, match="takes arrays"):
        convolutional_omp(torch.as_tensor(X), operator)


def test_results():
    operator, X = make_problem()
    with pytest.warns(ConvergenceWarning, match="above tol="):
        result = convolutional_omp(X, operator, tol=3.5, n_nonzero_coefs=9, return_result=True)
    norms = np.linalg.norm((X - operator.synthesize(result.codes)).reshape(3, -1), axis=1)
    np.testing.assert_allclose(result.objective, norms**2 / 2, rtol=1e-9)
    np.testing.assert_array_equal(result.n_iter, (result.codes != 0).sum(axis=(1, 2, 3)))
    np.testing.assert_array_equal(result.converged, norms <= 3.5)
    assert result.gap is None
    assert convolutional_omp(X, operator, n_nonzero_coefs=2, return_result=True).converged is None
