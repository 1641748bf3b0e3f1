"""`PatchDictionaryDenoiser` as a torch module: parity, and each backward pass against its definition."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import PatchDictionaryDenoiser, as_module
from skrobust.attacks import PGD, Square
from skrobust.estimators.patch.torch import PatchModule
from skrobust.pursuits import orthogonal_mp

DIGITS = load_digits().data / 16
LABELS = load_digits().target

RULES = [
    {"n_nonzero_coefs": 3},
    {"noise_std": 0.1, "stride": 2, "image_weight": 2.0, "remove_mean": False, "selection": "ols"},
]


@pytest.fixture(scope="module", params=RULES, ids=["count", "noise"])
def fitted(request):
    # Atoms with and without a mean, of all norms.
    atoms = np.random.default_rng(0).normal(0.2, 1, size=(30, 16))
    denoiser = PatchDictionaryDenoiser(patch_size=4, dictionary=atoms, image_shape=(8, 8), clip=(0, 1), **request.param)
    return denoiser.fit(DIGITS)


def backward(fitted, gradient, X, upstream):
    T = torch.tensor(X, requires_grad=True)
    out = as_module(fitted, gradient=gradient)(T)
    out.backward(torch.tensor(upstream))
    return out.detach().numpy(), T.grad.numpy()


@pytest.mark.parametrize("gradient", ["exact", "identity", "projection", "smooth"])
def test_forward_is_exact_in_every_mode(fitted, gradient):
    out, _ = backward(fitted, gradient, DIGITS[:30], np.ones((30, 64)))
    np.testing.assert_allclose(out, fitted.transform(DIGITS[:30]), atol=1e-9)
    module = as_module(fitted, gradient=gradient, dtype="float32")
    single = module(torch.tensor(DIGITS[:30], dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(single, fitted.transform(DIGITS[:30].astype(np.float32)), atol=1e-5)


def test_exact_gradient_against_differences(fitted):
    X = torch.tensor(DIGITS[3:5] + 0.003 * np.random.default_rng(1).normal(size=(2, 64)), requires_grad=True)
    assert torch.autograd.gradcheck(as_module(fitted), X, eps=1e-7, atol=1e-5)


def patch_positions(stride):
    """Indices into the flat image of the pixels of each 4 x 4 patch, (n_patches, 16)."""
    starts = range(0, 5, stride)  # the last patch ends at the border: 8 - 4 is a multiple of the strides
    pixels = np.arange(64).reshape(8, 8)
    return np.array([pixels[i : i + 4, j : j + 4].ravel() for i in starts for j in starts])


def jacobian(fitted, x, operator):
    """Of the denoiser without clip at `x`; `operator(atoms, patch, support)` is the matrix that codes a patch."""
    positions = patch_positions(fitted.stride)
    whole = fitted.image_weight * np.eye(64)
    mean = np.full((16, 16), 1 / 16) * fitted.remove_mean
    coverage = np.bincount(positions.ravel(), minlength=64)
    tol = None if fitted.noise_std is None else fitted.gain * fitted.noise_std * 4
    patches = x[positions] @ (np.eye(16) - mean)
    codes = orthogonal_mp(
        patches,
        fitted.components_,
        n_nonzero_coefs=fitted.n_nonzero_coefs,
        tol=tol,
        selection=fitted.selection,
        sparse_output=False,
    )
    for position, patch, code in zip(positions, patches, codes, strict=True):
        approximation = operator(fitted.components_, patch, np.flatnonzero(code))
        whole[np.ix_(position, position)] += mean + approximation @ (np.eye(16) - mean)
    return whole / (coverage[:, None] + fitted.image_weight)


def least_squares(atoms, patch, support):
    """Projection onto the atoms of the support."""
    return np.linalg.pinv(atoms[support]) @ atoms[support]


def matching_pursuit(atoms, patch, support):
    """As many steps of matching pursuit as the support has atoms, the choices of atoms held fixed."""
    atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    residual = np.eye(16)
    for _ in support:
        atom = atoms[np.abs(atoms @ residual @ patch).argmax()]
        residual -= np.outer(atom, atom @ residual)
    return np.eye(16) - residual


def test_gradient_modes_are_as_documented(fitted):
    rng = np.random.default_rng(0)
    X, W = DIGITS[:8] + 0.01 * rng.normal(size=(8, 64)), rng.normal(size=(8, 64))
    free = PatchDictionaryDenoiser(**{**fitted.get_params(), "clip": None}).fit(X).transform(X)
    inside = (free >= 0) & (free <= 1)
    assert 0 < inside.mean() < 1
    projected = np.stack([w @ jacobian(fitted, x, least_squares) for x, w in zip(X, W, strict=True)])
    exact = np.stack([w @ jacobian(fitted, x, least_squares) for x, w in zip(X, W * inside, strict=True)])
    np.testing.assert_allclose(backward(fitted, "projection", X, W)[1], projected, atol=1e-10)
    np.testing.assert_allclose(backward(fitted, "exact", X, W)[1], exact, atol=1e-10)
    np.testing.assert_array_equal(backward(fitted, "identity", X, W)[1], W)
    out, skipped = backward(fitted, "skip", X, W)
    np.testing.assert_array_equal(out, X)
    np.testing.assert_array_equal(skipped, W)


def test_smooth_gradient_sees_other_atoms(fitted):
    X, W = DIGITS[:8], np.random.default_rng(0).normal(size=(8, 64))
    smooth, projection = (backward(fitted, gradient, X, W)[1] for gradient in ("smooth", "projection"))
    assert np.isfinite(smooth).all()
    assert np.linalg.norm(smooth - projection) > 0.05 * np.linalg.norm(projection)


def test_smooth_selection_is_matching_pursuit_in_the_limit(fitted, monkeypatch):
    monkeypatch.setattr("skrobust.estimators.patch.torch.SMOOTH_TEMPERATURE", 1e-9)
    rng = np.random.default_rng(0)
    X, W = DIGITS[:3] + 0.01 * rng.normal(size=(3, 64)), rng.normal(size=(3, 64))
    smooth = backward(fitted, "smooth", X, W)[1]
    expected = [w @ jacobian(fitted, x, matching_pursuit) for x, w in zip(X, W, strict=True)]
    np.testing.assert_allclose(smooth, expected, atol=1e-9)


def test_memory_bounds_change_nothing(fitted):
    from sklearn import config_context

    X, W = DIGITS[:10], np.random.default_rng(0).normal(size=(10, 64))
    for gradient in ("exact", "smooth"):
        expected = backward(fitted, gradient, X, W)
        with config_context(working_memory=0.05):
            result = backward(fitted, gradient, X, W)
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_the_path_of_other_devices(fitted, monkeypatch):
    """Pure torch, as on a GPU, here on the CPU."""
    X, W = DIGITS[:10] + 0.01 * np.random.default_rng(0).normal(size=(10, 64)), np.ones((10, 64))
    expected = backward(fitted, "exact", X, W)
    monkeypatch.setattr(PatchModule, "uses_kernels", staticmethod(lambda pixels: False))
    result = backward(fitted, "exact", X, W)
    np.testing.assert_allclose(result[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(result[1], expected[1], atol=1e-9)


def test_tensors_in_tensors_out(fitted):
    T = torch.tensor(DIGITS[:5], dtype=torch.float32, requires_grad=True)
    out = fitted.transform(T)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.detach().numpy(), fitted.transform(DIGITS[:5]), atol=1e-5)
    out.sum().backward()
    assert T.grad.abs().sum() > 0
    images = fitted.transform(T.detach().reshape(5, 8, 8))
    np.testing.assert_array_equal(images.reshape(5, 64).numpy(), out.detach().numpy())


def test_a_dictionary_of_each_image():
    denoiser = PatchDictionaryDenoiser(
        20, patch_size=4, dictionary="image", noise_std=0.1, image_shape=(8, 8), random_state=0
    ).fit(DIGITS[:3])
    out, grad = backward(denoiser, "exact", DIGITS[:3], np.ones((3, 64)))
    np.testing.assert_allclose(out, denoiser.transform(DIGITS[:3]), atol=1e-9)
    assert np.abs(grad).sum() > 0


def test_adaptive_attacks_go_through_the_pipeline():
    denoiser = PatchDictionaryDenoiser(
        32, patch_size=4, n_nonzero_coefs=2, image_shape=(8, 8), clip=(0, 1), random_state=0
    )
    model = make_pipeline(denoiser, LogisticRegression(C=1.0)).fit(DIGITS[:800], LABELS[:800])
    X, y = DIGITS[1000:1060], LABELS[1000:1060]
    accuracy = {"clean": model.score(X, y)}
    for gradient in ("worst", "exact", "skip"):
        attack = PGD(eps=0.15, n_iter=10, gradient=gradient, random_state=0)
        X_adv = attack.perturb(model, X, y)
        assert np.abs(X_adv - X).max() <= 0.15
        accuracy[gradient] = model.score(X_adv, y)
    square = Square(eps=0.15, n_iter=100, image_shape=(8, 8), random_state=0)
    accuracy["square"] = model.score(square.perturb(model, X, y), y)
    assert accuracy["clean"] > 0.8
    assert accuracy["worst"] <= min(accuracy["exact"], accuracy["square"] + 0.02)
    assert accuracy["worst"] < accuracy["clean"] - 0.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(fitted):
    T = torch.tensor(DIGITS[:50], device="cuda", requires_grad=True)
    out = fitted.transform(T)
    assert out.device == T.device
    np.testing.assert_allclose(out.detach().cpu().numpy(), fitted.transform(DIGITS[:50]), atol=1e-9)
    out.sum().backward()
    expected = backward(fitted, "exact", DIGITS[:50], np.ones((50, 64)))[1]
    np.testing.assert_allclose(T.grad.cpu().numpy(), expected, atol=1e-9)
