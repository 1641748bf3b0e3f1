"""Robust accuracy of one model, and scorers for scikit-learn's searches."""

from numbers import Real

import numpy as np
from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRequest

from skrobust.evaluation.corruptions.apply import corruptions_for
from skrobust.evaluation.report.images import image_layout
from skrobust.evaluation.report.per_image import for_images
from skrobust.signals import is_tensor


def survivors(model, X, y, attack):
    """For each image, whether `model` classifies it correctly, clean and after `attack`.

    An attacker may leave the image unchanged, so an image that is misclassified without attack does not survive.
    Corruptions, and attacks with ``perturb_all=True``, are scored on the perturbed images only.
    """
    labels = np.asarray(y)
    right = predicted_labels(model, attack.perturb(model, X, y)) == labels
    if is_adversary(attack) and not getattr(attack, "perturb_all", False):
        right &= predicted_labels(model, X) == labels
    return right


def predicted_labels(model, X):
    """Predictions of the model as an ndarray; for a torch network the class of the largest score."""
    if hasattr(model, "predict"):
        return np.asarray(model.predict(X))
    import torch

    from skrobust.bridge import as_module

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a fitted classifier with predict, or a torch.nn.Module; got {model!r}.")
    # torch does not support negative strides.
    return as_module(model).predict(X if is_tensor(X) else torch.as_tensor(np.ascontiguousarray(X)))


def module_of(model):
    """The model as a differentiable torch module, or None if it has no gradients."""
    from skrobust.bridge import NoGradientError, as_module

    try:
        return as_module(model)
    except NoGradientError:
        return None


def same_classes(one, other):
    """Whether two classifiers have the same ``classes_``; true if either has none, such as a torch network."""
    classes, others = getattr(one, "classes_", None), getattr(other, "classes_", None)
    return classes is None or others is None or np.array_equal(classes, others)


def is_adversary(attack):
    """Whether `attack` is adversarial, as opposed to a corruption."""
    return getattr(attack, "threat_model", "white box") != "corruption"


def robust_accuracy(model, X, y, attack, *, reduce="worst", sample_weight=None):
    """Accuracy of `model` under attack.

    Perturbed images are evaluated by the model's own ``predict``. With several attacks, an image counts only if it
    survives all of them: the mean over images of the minimum over attacks.

    Parameters
    ----------
    model : fitted classifier or Pipeline
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
    y : array-like of shape (n_samples,)
        True labels.
    attack : attack, Corruption, list of them or "corruptions"
        Anything with ``perturb(model, X, y)``. "corruptions": every kind that applies to X (`corruptions_for`).
    reduce : {"worst", "mean"}, default="worst"
        How several attacks are combined. "mean" is the mean accuracy over the list, as is usual for corruptions.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weight of each image in the mean.

    Returns
    -------
    float in [0, 1]

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.evaluation import Corruption, robust_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(max_iter=500).fit(X[:900] / 16, y[:900])
    >>> noise = Corruption("gaussian_noise", severity=5, random_state=0)
    >>> robust_accuracy(model, X[900:] / 16, y[900:], noise) > 0.5
    True
    """
    _check_reduce(reduce)
    attacks = all_corruptions(model, X) if _is_all(attack) else checked_attacks(attack)
    right = np.stack([survivors(model, X, y, one) for one in attacks])
    shares = right.all(axis=0) if reduce == "worst" else right.mean(axis=0)
    return float(np.average(shares, weights=None if sample_weight is None else np.asarray(sample_weight, dtype=float)))


class RobustScorer:
    """A scorer in scikit-learn's sense, ``scorer(estimator, X, y)``; made by `make_robust_scorer`.

    It has plain attributes only, so that joblib can pickle it.
    """

    def __init__(self, attacks, reduce="worst", max_samples=None):
        self.attacks = attacks
        self.reduce = reduce
        self.max_samples = max_samples

    def __call__(self, estimator, X, y, *, sample_weight=None):
        """Robust accuracy of the fitted `estimator` on `X`, `y`."""
        if self.max_samples is not None:
            index = evenly_spread(len(y), self.max_samples)
            attacks = [for_images(attack, index, X) for attack in self.attacks]
            X, y = _rows(X, index), np.asarray(y)[index]
            sample_weight = None if sample_weight is None else np.asarray(sample_weight)[index]
        else:
            attacks = self.attacks
        return robust_accuracy(estimator, X, y, attacks, reduce=self.reduce, sample_weight=sample_weight)

    def set_score_request(self, *, sample_weight):
        """Request sample weights from searches and cross-validation, with scikit-learn's metadata routing enabled.

        Parameters
        ----------
        sample_weight : bool, None or str
            True: request them. False: do not. None: raise an error if they are passed. A string: their name there.

        Returns
        -------
        self
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing: enable it with "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._sample_weight_request = sample_weight
        return self

    def get_metadata_routing(self):
        """The metadata requests of the scorer.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
        """
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=getattr(self, "_sample_weight_request", None))
        return request

    def __repr__(self):
        attacks = self.attacks[0] if len(self.attacks) == 1 else self.attacks
        settings = [repr(attacks)]
        if self.reduce != "worst":
            settings.append(f"reduce={self.reduce!r}")
        if self.max_samples is not None:
            settings.append(f"max_samples={self.max_samples}")
        return f"make_robust_scorer({', '.join(settings)})"


def make_robust_scorer(attack, *, reduce="worst", max_samples=None):
    """Scorer for `GridSearchCV` and `cross_validate` that returns the accuracy under attack.

    Parameters
    ----------
    attack : attack, Corruption, list of them or "corruptions"
        An image counts if it survives all of them (see `reduce`). Give attacks a `random_state`, so that all
        candidates of a search are evaluated on the same attack. "corruptions": every kind that applies to the images,
        at severity 3 (`corruptions_for`); best with ``reduce="mean"``.
    reduce : {"worst", "mean"}, default="worst"
        How several attacks are combined.
    max_samples : int or None, default=None
        Maximum number of images to attack, spread evenly over those passed; None: all of them.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)``, picklable, for ``scoring=``; also as an entry of a dict. It accepts sample
        weights; with metadata routing ``scorer.set_score_request(sample_weight=True)`` requests them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skrobust.evaluation import Corruption, TradeOff, make_robust_scorer
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = make_robust_scorer(Corruption("gaussian_noise", severity=5, random_state=0))
    >>> search = GridSearchCV(
    ...     LogisticRegression(max_iter=500),
    ...     {"C": [0.1, 1.0]},
    ...     scoring={"clean": "accuracy", "noisy": noisy},
    ...     refit=TradeOff({"clean": 1, "noisy": 2}),
    ...     cv=3,
    ... )
    >>> sorted(search.fit(X[:300] / 16, y[:300]).best_params_)
    ['C']
    """
    _check_reduce(reduce)
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be None or at least 1, got {max_samples!r}.")
    return RobustScorer(attack if _is_all(attack) else checked_attacks(attack), reduce, max_samples)


class TradeOff:
    """Selection of a search's best candidate by several scores, for ``GridSearchCV(..., refit=TradeOff(...))``.

    Selects the candidate with the largest weighted mean of cross-validated scores among those that satisfy all lower
    bounds of `at_least`; the first one if several tie. If no candidate satisfies them, the search raises an error.

    Parameters
    ----------
    weights : dict of str to float
        Weight of each score, by its name in ``scoring``; not negative, not all zero.
    at_least : dict of str to float or None, default=None
        Lower bounds on mean scores.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.evaluation import TradeOff
    >>> results = {"mean_test_clean": np.array([0.99, 0.97, 0.80]), "mean_test_robust": np.array([0.1, 0.6, 0.7])}
    >>> int(TradeOff({"clean": 1, "robust": 1})(results))
    1
    >>> int(TradeOff({"robust": 1}, at_least={"clean": 0.9})(results))
    1
    """

    def __init__(self, weights, at_least=None):
        self.weights = weights
        self.at_least = at_least

    def __call__(self, cv_results):
        """Index of the selected candidate in ``cv_results_``."""
        weights = self._checked_weights()
        mean = sum(w * self._scores(cv_results, name) for name, w in weights.items()) / sum(weights.values())
        admissible = ~np.isnan(mean)
        for name, floor in (self.at_least or {}).items():
            admissible &= self._scores(cv_results, name) >= floor
        if not admissible.any():
            raise ValueError(
                f"No candidate satisfies at_least={self.at_least!r}. Best values: "
                + ", ".join(
                    f"{name} {np.nanmax(self._scores(cv_results, name)):.4f}" for name in self.at_least or weights
                )
                + ". Lower the bound or widen the grid."
            )
        return int(np.argmax(np.where(admissible, mean, -np.inf)))

    def __repr__(self):
        floors = f", at_least={self.at_least!r}" if self.at_least else ""
        return f"TradeOff({self.weights!r}{floors})"

    def _checked_weights(self):
        weights = self.weights
        if not isinstance(weights, dict) or not weights:
            raise ValueError(f"weights must be a dict of score name to weight, got {weights!r}.")
        if any(not isinstance(w, Real) or not w >= 0 for w in weights.values()) or sum(weights.values()) == 0:
            raise ValueError(f"weights must be numbers >= 0, not all zero, got {weights!r}.")
        return weights

    @staticmethod
    def _scores(cv_results, name):
        key = f"mean_test_{name}"
        if key not in cv_results:
            names = sorted(k.removeprefix("mean_test_") for k in cv_results if k.startswith("mean_test_"))
            raise ValueError(f"The search has no score named {name!r}; its scoring= names {names}.")
        return np.asarray(cv_results[key], dtype=float)


def checked_attacks(attack):
    """`attack` as a non-empty list of objects that can perturb."""
    if isinstance(attack, str):
        raise ValueError(f"attack must be an attack, a Corruption, a list of them or 'corruptions', got {attack!r}.")
    attacks = list(attack) if isinstance(attack, list | tuple) else [attack]
    if not attacks:
        raise ValueError("attack is an empty list; give at least one attack or Corruption.")
    for one in attacks:
        if isinstance(one, type) or not callable(getattr(one, "perturb", None)):
            hint = " Pass an instance, with parentheses." if isinstance(one, type) else ""
            raise TypeError(
                f"Every attack needs a method perturb(model, X, y), as skrobust.attacks.PGD and "
                f"skrobust.evaluation.Corruption have; got {one!r}.{hint}"
            )
    return attacks


def all_corruptions(model, X, *, image_shape=None, data_range=(0, 1), random_state=0):
    """A corruption of every kind that applies to `X`, with flattened images reshaped as for galleries."""
    if len(np.shape(X)) == 2:
        layout = image_layout(model, np.shape(X)[1:], image_shape)
        image_shape = None if layout is None else layout.image_shape
    return corruptions_for(X, image_shape=image_shape, data_range=data_range, random_state=random_state)


def _is_all(attack):
    return isinstance(attack, str) and attack == "corruptions"


def evenly_spread(n, n_indices):
    """At most `n_indices` of the indices 0..n-1, spread evenly, ascending."""
    return np.unique(np.linspace(0, n - 1, min(n, n_indices)).round().astype(int))


def _rows(X, index):
    return X.iloc[index] if hasattr(X, "iloc") else X[index]


def _check_reduce(reduce):
    if reduce not in ("worst", "mean"):
        raise ValueError(f"reduce must be 'worst' or 'mean', got {reduce!r}.")
