"""All checks in turn."""

import numpy as np

from skrobust.bridge._inputs import check_feature_names
from skrobust.evaluation._defaults import default_attacks
from skrobust.evaluation._per_image import for_images, rows
from skrobust.evaluation._scoring import checked_attacks, evenly_spread, predicted_labels

from ._attack_checks import (
    check_black_box,
    check_identity,
    check_one_step,
    check_restarts,
    check_transfer,
    check_unbounded,
)
from ._gradient_checks import check_gradients, check_loss, check_randomness
from ._probe import Probe

#: The checks, the cheapest first; each takes a `Probe` and returns a `Verdict`.
CHECKS = (
    check_randomness,
    check_gradients,
    check_loss,
    check_unbounded,
    check_one_step,
    check_identity,
    check_restarts,
    check_transfer,
    check_black_box,
)


def masking_checks(
    model,
    X,
    y,
    *,
    eps,
    attacks=None,
    baseline=None,
    norm=None,
    clip=(0, 1),
    image_shape=None,
    n_samples=100,
    random_state=0,
):
    """Look for signs that an evaluation flatters a model.

    Each check is a comparison that an honest model under strong attacks passes; see Carlini et al. (2019), "On
    evaluating adversarial robustness", and Athalye et al. (2018), "Obfuscated gradients give a false sense of
    security". A warning is a reason to look closer, a pass no proof.

    Parameters
    ----------
    model : fitted classifier
    X, y : array-like
        Test images; of those that the model names rightly, `n_samples` are used.
    eps : float
        Where to look; best where the attacks break about half of the images.
    attacks : attack, list of attacks or None, default=None
        The evaluation in question; None: the default attacks of `robustness_report`.
    baseline : fitted classifier or None, default=None
        The undefended classifier, to transfer attacks from.
    norm : {"linf", "l2", "l1"} or None, default=None
        None: that of `attacks`, else "linf".
    clip : (float, float) or None, default=(0, 1)
    image_shape : tuple of int or None, default=None
        Height, width and channels of flattened images, for the Square attack.
    n_samples : int, default=100
    random_state : int, default=0

    Returns
    -------
    list of Verdict

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.evaluation import masking_checks
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression(max_iter=500).fit(X[:1000], y[:1000])
    >>> verdicts = masking_checks(model, X[1000:1100], y[1000:1100], eps=0.1, n_samples=50)
    >>> [verdict.check for verdict in verdicts if verdict.fired]
    []
    """
    check_feature_names(model, X)
    X, y = np.ascontiguousarray(X), np.asarray(y)
    if attacks is None:
        attacks = default_attacks(norm or "linf", clip=clip, random_state=random_state)
    else:
        attacks = checked_attacks(attacks)
        norm = norm or attacks[0].norm
    words = {"attacks": attacks, "baseline": baseline, "norm": norm or "linf", "clip": clip}
    words |= {"image_shape": image_shape, "random_state": random_state}
    right = predicted_labels(model, X) == y
    return run_checks(model, X, y, right, eps=eps, n_samples=n_samples, broken=None, **words)


def run_checks(model, X, y, right, *, eps, n_samples, broken, on_step=None, **words):
    """The checks on at most `n_samples` of the images that are `right`.

    Parameters
    ----------
    model : fitted classifier
    X, y : ndarray
    right : ndarray of bool of shape (n_samples,)
        Images that the model names rightly when clean.
    eps : float
    n_samples : int
    broken : ndarray of bool of the length of X, or None
        Images that the evaluation's white-box attacks broke at eps, if that is known.
    on_step : callable or None
        Called after each check.
    **words
        Further parameters of `Probe`.

    Returns
    -------
    list of Verdict
    """
    known = np.flatnonzero(right)
    known = known[evenly_spread(known.size, n_samples)] if known.size else known
    words["attacks"] = [for_images(attack, known, X) for attack in words["attacks"]]
    words["clip"] = rows(words["clip"], "clip", known, X.shape)
    probe = Probe(model, X[known], y[known], eps=eps, broken=None if broken is None else broken[known], **words)
    verdicts = []
    import torch

    with torch.inference_mode(False):  # a caller's inference mode would leave no gradients
        for check in CHECKS:
            verdicts.append(check(probe))
            if on_step is not None:
                on_step()
    return verdicts
