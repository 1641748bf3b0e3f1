"""Linear classifiers after affine steps as one matrix, with bounds on all rounding errors."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from sklearn import decomposition, discriminant_analysis, linear_model, preprocessing
from sklearn.feature_selection import SelectorMixin
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from skrobust.bridge.inputs import active_steps
from skrobust.kernels.rounding import gamma

from .registry import NoCertificateError

_CLASSIFIERS = (
    LinearSVC,
    linear_model.LogisticRegression,
    linear_model.SGDClassifier,
    linear_model.RidgeClassifier,
    linear_model.RidgeClassifierCV,
    linear_model.Perceptron,
    discriminant_analysis.LinearDiscriminantAnalysis,
    *(getattr(linear_model, name) for name in ("PassiveAggressiveClassifier",) if hasattr(linear_model, name)),
)

_KNOWN = "LinearSVC, LogisticRegression, SGDClassifier, RidgeClassifier, Perceptron, LDA, or one-vs-rest of these"


@dataclass(frozen=True)
class LinearHead:
    """Class scores ``z @ coef.T + intercept``, whose argmax is the prediction; opposite scores for two classes.

    Attributes
    ----------
    coef : ndarray of shape (n_classes, n_inputs)
    intercept : ndarray of shape (n_classes,)
    magnitude, offset : ndarray
        The same sums with absolute values, to which rounding errors are relative.
    n_operations : int
        Longest chain of rounded operations from an input to a score.
    classes : ndarray of shape (n_classes,)
    """

    coef: np.ndarray
    intercept: np.ndarray
    magnitude: np.ndarray
    offset: np.ndarray
    n_operations: int
    classes: np.ndarray

    def error(self, size, dtype):
        """Bound on the rounding errors of scores, of the estimator in `dtype` plus ours in float64.

        Parameters
        ----------
        size : ndarray of shape (n_samples, n_inputs) or (n_inputs,)
            Bound on the inputs' magnitudes.
        dtype : dtype

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_classes,)
        """
        relative = gamma(self.n_operations, dtype) + gamma(self.n_operations + 4, np.float64)
        return relative * (size @ self.magnitude.T + self.offset) + np.finfo(dtype).tiny * self.n_operations

    def after(self, matrix, offset, n_operations):
        """The head composed with an affine step ``z = matrix @ x + offset``.

        `matrix` is sparse or dense of shape (n_inputs, n_new); a vector means a diagonal matrix.
        """
        absolute = abs(matrix)
        if np.ndim(matrix) == 1:
            coef, magnitude = self.coef * matrix, self.magnitude * absolute
        else:
            coef, magnitude = self.coef @ matrix, self.magnitude @ absolute
        return replace(
            self,
            coef=np.asarray(coef),
            intercept=self.intercept + self.coef @ offset,
            magnitude=np.asarray(magnitude),
            offset=self.offset + self.magnitude @ np.abs(offset),
            n_operations=self.n_operations + n_operations,
        )


def linear_head(steps):
    """The `LinearHead` of the last steps of a model.

    Parameters
    ----------
    steps : list of (name, estimator)
        Affine transformers, then a linear classifier.

    Raises
    ------
    NoCertificateError
        Names the step that is neither.
    """
    *transformers, (name, classifier) = steps
    head = _classifier(name, classifier)
    for name, step in reversed(transformers):
        head = _pull_back(head, name, step)
    return head


def _classifier(name, estimator):
    if isinstance(estimator, OneVsRestClassifier):
        return _one_vs_rest(name, estimator)
    if not isinstance(estimator, _CLASSIFIERS):
        raise NoCertificateError(
            f"No certificate for {_describe(name, estimator)}: only linear classifiers have one. End the Pipeline in "
            f"{_KNOWN}."
        )
    classes = np.asarray(estimator.classes_)
    coef = np.atleast_2d(_dense(estimator.coef_)).astype(np.float64)
    intercept = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).reshape(-1), (len(coef),)).copy()
    if classes.ndim != 1 or len(coef) != (1 if len(classes) == 2 else len(classes)):
        raise NoCertificateError(f"No certificate for {_describe(name, estimator)}: it predicts several labels.")
    return _make(coef, intercept, classes)


def _make(coef, intercept, classes):
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return LinearHead(coef, intercept, np.abs(coef), np.abs(intercept), coef.shape[1] + 2, classes)


def _one_vs_rest(name, estimator):
    classes = np.asarray(estimator.classes_)
    if estimator.multilabel_:
        raise NoCertificateError(f"No certificate for {_describe(name, estimator)}: it predicts several labels.")
    heads = []
    for inner in estimator.estimators_:
        head = linear_head(active_steps(inner) if isinstance(inner, Pipeline) else [(name, inner)])
        if len(head.classes) != 2:
            raise NoCertificateError(f"No certificate for {_describe(name, estimator)}: a part of it is not binary.")
        heads.append(head)
    # Each row of a binary head is half of its decision, and classes are compared by whole decisions.
    if len(heads) == 1:
        return replace(heads[0], classes=classes)
    parts = {
        field: np.stack([2 * getattr(head, field)[1] for head in heads])
        for field in ("coef", "intercept", "magnitude", "offset")
    }
    return LinearHead(**parts, n_operations=max(head.n_operations for head in heads), classes=classes)


def _pull_back(head, name, step):
    """`head` composed with `step`."""
    n = head.coef.shape[1]
    ones, zeros = np.ones(n), np.zeros(n)
    if isinstance(step, preprocessing.StandardScaler):
        scale = 1 / step.scale_ if step.with_std else ones
        return head.after(scale, -step.mean_ * scale if step.with_mean else zeros, 4)
    if isinstance(step, preprocessing.MinMaxScaler) and not step.clip:
        return head.after(step.scale_, step.min_, 4)
    if isinstance(step, preprocessing.MaxAbsScaler) and not getattr(step, "clip", False):
        return head.after(1 / step.scale_, zeros, 4)
    if isinstance(step, preprocessing.RobustScaler):
        scale = 1 / step.scale_ if step.with_scaling else ones
        return head.after(scale, -step.center_ * scale if step.with_centering else zeros, 4)
    if isinstance(step, SelectorMixin):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of selectors that select no feature
            chosen = np.flatnonzero(step.get_support())
        matrix = sparse.eye_array(step.n_features_in_, format="csr")[chosen]
        return head.after(matrix, zeros, 1)
    if isinstance(step, (decomposition.PCA, decomposition.IncrementalPCA)):
        scale = np.sqrt(np.maximum(step.explained_variance_, np.finfo(float).eps)) if step.whiten else np.ones(n)
        matrix = step.components_.astype(np.float64) / scale[:, None]
        return head.after(matrix, -matrix @ step.mean_, step.n_features_in_ + 8)
    if isinstance(step, decomposition.TruncatedSVD):
        return head.after(step.components_.astype(np.float64), zeros, step.n_features_in_ + 4)
    if isinstance(step, preprocessing.FunctionTransformer) and step.func is None:
        return head
    raise NoCertificateError(
        f"No certificate through {_describe(name, step)}: between a front end and a linear classifier there may be "
        "StandardScaler, RobustScaler, MaxAbsScaler, MinMaxScaler (without clip), feature selection and PCA. Leave it "
        "out, or attack the model instead."
    )


def _dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def _describe(name, estimator):
    return f"step {name!r} ({type(estimator).__name__})" if name else type(estimator).__name__
