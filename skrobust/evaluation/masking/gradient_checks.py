"""Checks of the model itself: its gradients, its loss along them, and whether it is deterministic."""

import numpy as np

from skrobust.evaluation.scoring.robust import predicted_labels

from .attack_checks import exceeds_tolerance
from .verdict import masking_check


@masking_check("zero or non-finite gradients")
def check_gradients(probe):
    """Zero or non-finite gradients of the margin of the model's scores, with which gradient attacks fail."""
    gradient = _margin_gradient(probe).reshape(probe.n, -1)
    bad = ~np.isfinite(gradient).all(axis=1)
    zero = ~bad & (np.abs(np.nan_to_num(gradient)) == 0).all(axis=1)
    return (
        exceeds_tolerance((bad | zero).mean(), probe.n),
        f"Of the gradients of the margin at {probe.n} images, {zero.mean():.0%} are zero and {bad.mean():.0%} are not "
        "finite.",
        {"zero": zero.mean(), "not_finite": bad.mean(), "n": probe.n},
        "White-box attacks fail here: give the steps that round, saturate or select another backward pass "
        "(gradient='identity', 'smooth' or 'worst'), or attack scores before a softmax.",
    )


@masking_check("loss does not rise with eps")
def check_loss(probe):
    """Loss does not rise along the gradient: it is no better than a random direction.

    Compares mean margins at eps / 2 and at eps along the gradient with those along random directions of the same
    length.
    """
    import torch

    gradient = np.nan_to_num(_margin_gradient(probe), posinf=0, neginf=0)
    noise = np.random.default_rng(probe.random_state).standard_normal(gradient.shape)
    rises = {}
    with torch.no_grad():
        before = _margins(probe, probe.X)
        for name, direction in (("along", gradient), ("random", noise)):
            steps = [_stepped(probe, direction, eps) for eps in (probe.eps / 2, probe.eps)]
            rises[name] = [float(np.mean(_margins(probe, step) - before)) for step in steps]
    half, whole = rises["along"]
    # Curvature may slow the rise over the second half, but the margin must not fall, or rise less than along noise.
    fired = whole <= max(0.0, rises["random"][1]) or whole < 0.95 * half
    return (
        fired,
        f"Along the gradient the mean margin rises by {half:.3g} half way to eps = {probe.eps:.4g} and by {whole:.3g} "
        f"at it; along random directions by {rises['random'][1]:.3g}.",
        {"half": half, "whole": whole, "random": rises["random"][1], "eps": probe.eps, "n": probe.n},
        "The gradient is informative only very close to the image (shattered, or many local optima): "
        "smooth the backward pass, average gradients over noise, and trust black-box attacks more.",
    )


@masking_check("randomness between two forward passes", needs_gradient=False)
def check_randomness(probe):
    """Randomness between two forward passes, over which attacks must average."""
    changed = float(np.mean(predicted_labels(probe.model, probe.X) != predicted_labels(probe.model, probe.X)))
    spread = 0.0
    for method in ("decision_function", "predict_proba"):
        if hasattr(probe.model, method):
            first, second = (np.asarray(getattr(probe.model, method)(probe.X)) for _ in range(2))
            spread = max(spread, _spread(first, second))
    if not hasattr(probe.model, "predict"):
        import torch

        with torch.no_grad():
            first, second = (probe.module(torch.as_tensor(probe.X)).cpu().numpy() for _ in range(2))
        spread = _spread(first, second)
    return (
        changed > 0 or spread > 1e-6,
        f"In two calls the model changes its answer to {changed:.1%} of {probe.n} images, and the gap between its two "
        f"best scores by up to {spread:.2g} of the largest.",
        {"answers_changed": changed, "scores_changed": spread, "n": probe.n},
        "Average gradients over several passes (n_eot) and repeat the report with other seeds: "
        "a single successful pass does not show robustness.",
    )


def _spread(first, second):
    """Largest change of the gap between an image's two best scores, relative to the largest gap.

    Other classes are ignored: a masked score of -1e9 would hide any change.
    """
    if first.ndim == 2:
        best = np.argsort(first, axis=1)[:, -2:]
        first, second = (np.diff(np.take_along_axis(scores, best, axis=1), axis=1) for scores in (first, second))
    return float(np.abs(first - second).max()) / (float(np.abs(first).max()) or 1.0)


def _margin_gradient(probe):
    """Gradient of ``max_{j != y} s_j - s_y`` at each image, as computed by the module."""
    import torch

    X = torch.as_tensor(probe.X).clone().requires_grad_(True)
    scores = probe.module(X)
    (gradient,) = torch.autograd.grad(_margin(probe, scores).sum(), X, allow_unused=True, materialize_grads=True)
    return gradient.numpy()


def _margins(probe, X):
    import torch

    return _margin(probe, probe.module(torch.as_tensor(X))).numpy()


def _margin(probe, scores):
    from skrobust.attacks.core.losses import margin

    return margin(scores, probe.module.label_indices(probe.y))


def _stepped(probe, direction, eps):
    """Images moved by `eps` in the given norm along `direction`, within box and mask."""
    mask = getattr(probe.main_attack, "mask", None)
    direction = direction if mask is None else np.where(mask, direction, 0)
    flat = direction.reshape(probe.n, -1)
    if probe.norm == "linf":
        step = np.sign(flat)
    else:
        length = np.linalg.norm(flat, ord={"l2": 2, "l1": 1}[probe.norm], axis=1, keepdims=True)
        step = flat / np.where(length > 0, length, 1)
    moved = probe.X + eps * step.reshape(probe.X.shape)
    return moved.astype(probe.X.dtype) if probe.clip is None else np.clip(moved, *probe.clip).astype(probe.X.dtype)
