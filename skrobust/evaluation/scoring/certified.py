"""A scorer for certified accuracy."""

from numbers import Real

import numpy as np


class CertifiedScorer:
    """A scorer in scikit-learn's sense, ``scorer(estimator, X, y)``; made by `make_certified_scorer`.

    It has plain attributes only, so that joblib can pickle it.
    """

    def __init__(self, eps, norm="linf", clip=(0, 1)):
        self.eps = eps
        self.norm = norm
        self.clip = clip

    def __call__(self, estimator, X, y):
        """Certified accuracy of the fitted `estimator` on `X`, `y`."""
        from skrobust.certificates import certify

        options = {"norm": self.norm, "clip": self.clip, "radius": False}
        certificates = [certify(estimator, X, y, eps, **options) for eps in np.ravel(self.eps)]
        return float(np.mean([certificate.certified_accuracy for certificate in certificates]))

    def __repr__(self):
        settings = [f"eps={self.eps!r}"]
        if self.norm != "linf":
            settings.append(f"norm={self.norm!r}")
        if self.clip is None or tuple(self.clip) != (0, 1):
            settings.append(f"clip={self.clip!r}")
        return f"make_certified_scorer({', '.join(settings)})"


def make_certified_scorer(eps, *, norm="linf", clip=(0, 1)):
    """Scorer for `GridSearchCV` and `cross_validate` that returns the certified accuracy.

    The share of images that `skrobust.certificates.certify` proves to be classified correctly under every perturbation
    of norm at most `eps`. It runs no attack, and no attack can lower the accuracy below it.

    Parameters
    ----------
    eps : float or sequence of float
        Largest perturbation, in the units of X. For several the score is the mean of the certified accuracies.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip : pair of float or None, default=(0, 1)
        Range in which perturbed images stay. None: no bounds.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)``, picklable, for ``scoring=``; also as an entry of a dict.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import PolarizingCoder
    >>> from skrobust.evaluation import make_certified_scorer
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(PolarizingCoder(), LogisticRegression(max_iter=500))
    >>> grid = {"logisticregression__C": [0.01, 100.0]}
    >>> scoring = {"clean": "accuracy", "certified": make_certified_scorer(0.1)}
    >>> search = GridSearchCV(model, grid, scoring=scoring, refit="certified", cv=3).fit(X[:600] / 16, y[:600])
    >>> results = search.cv_results_
    >>> bool((results["mean_test_certified"] <= results["mean_test_clean"]).all())
    True
    """
    radii = list(eps) if isinstance(eps, list | tuple | np.ndarray) else [eps]
    if not radii or not all(isinstance(e, Real) and np.isfinite(e) and e >= 0 for e in radii):
        raise ValueError(f"eps must be a finite number >= 0, or several in a list, got {eps!r}.")
    radii = [float(e) for e in radii]
    return CertifiedScorer(radii if isinstance(eps, list | tuple | np.ndarray) else radii[0], norm, clip)
