"""`masking_checks`: run all checks."""

import numpy as np

from skrobust.bridge.inputs import check_feature_names
from skrobust.evaluation.defaults import default_attacks
from skrobust.evaluation.report.per_image import for_images, rows
from skrobust.evaluation.scoring.robust import checked_attacks, evenly_spread, predicted_labels

from .attack_checks import (
    check_black_box,
    check_identity,
    check_one_step,
    check_restarts,
    check_transfer,
    check_unbounded,
)
from .gradient_checks import check_gradients, check_loss, check_randomness
from .probe import Probe

#: The checks, cheapest first; each takes a `Probe` and returns a `Verdict`.
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
    """Check for signs that an evaluation overestimates robustness.

    A model without gradient masking passes each check if the attacks are strong; see Carlini et al. (2019), "On
    evaluating adversarial robustness", and Athalye et al. (2018), "Obfuscated gradients give a false sense of
    security". A warning is a reason to look closer; a pass proves nothing.

    Parameters
    ----------
    model : fitted classifier
    X, y : array-like
        Test images, of which `n_samples` correctly classified ones are used.
    eps : float
        Radius to examine, preferably one at which the attacks break about half of the images.
    attacks : attack, list of attacks or None, default=None
        The examined evaluation; None: the default attacks of `robustness_report`.
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
    params = {"attacks": attacks, "baseline": baseline, "norm": norm or "linf", "clip": clip}
    params |= {"image_shape": image_shape, "random_state": random_state}
    correct = predicted_labels(model, X) == y
    return run_checks(model, X, y, correct, eps=eps, n_samples=n_samples, broken=None, **params)


def run_checks(model, X, y, correct, *, eps, n_samples, broken, on_step=None, **params):
    """The checks on at most `n_samples` of the images that the model classifies correctly without attack (`correct`).

    `broken` marks the images that the evaluation's white-box attacks broke at eps, if known; `on_step` is called after
    each check; `params` are further parameters of `Probe`. Returns a list of `Verdict`.
    """
    index = np.flatnonzero(correct)
    index = index[evenly_spread(index.size, n_samples)] if index.size else index
    params["attacks"] = [for_images(attack, index, X) for attack in params["attacks"]]
    params["clip"] = rows(params["clip"], "clip", index, X.shape)
    probe = Probe(model, X[index], y[index], eps=float(eps), broken=None if broken is None else broken[index], **params)
    verdicts = []
    import torch

    with torch.inference_mode(False):  # the caller's inference mode would disable gradients
        for check in CHECKS:
            verdicts.append(check(probe))
            if on_step is not None:
                on_step()
    return verdicts
