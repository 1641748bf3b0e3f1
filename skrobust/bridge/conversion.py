"""`as_module`: from fitted estimators to torch modules."""

import warnings

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from .modules import ClassifierModule, ClassifierStep, EstimatorModule, NetworkModule, ScoresStep, TransformerModule
from .registry import NoGradientError, find_converter, is_classifier, is_smooth

GRADIENTS = ("exact", "identity", "projection", "smooth", "skip")
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def as_module(estimator, *, gradient="exact", dtype=None, device=None):
    """Turn a fitted estimator or Pipeline into a torch module that computes the same and is differentiable.

    Parameters
    ----------
    estimator : estimator, Pipeline or torch.nn.Module
        Fitted. A torch module is used as it is, in eval mode, in its own dtype and on its own device: its outputs are
        the scores of the classes 0, 1, ... Modules that `as_module` returned, alone or inside a torch module, are
        differentiated as `gradient` says; with "exact" as they were made.
    gradient : {"exact", "identity", "projection", "smooth", "skip"}, default="exact"
        How non-smooth front ends are differentiated. "exact": their true derivative almost everywhere. "identity":
        the forward pass is exact, the backward pass the identity (BPDA). "projection": backward through the
        projection onto the support that was selected at the input. "smooth": a relaxed selection. "skip": the front
        end is left out, forward and backward. Smooth steps ignore it.
    dtype : {torch.float64, torch.float32, "float64", "float32"} or None, default=None
        In what the module computes; None is float64. Input of another dtype is converted.
    device : torch.device, str or None, default=None
        Where the module computes; None is the CPU.

    Returns
    -------
    TransformerModule or ClassifierModule
        In eval mode, with buffers in place of parameters. A transformer's module maps X to ``transform(X)``, in the
        layout that the estimator takes. A classifier's module has ``classes_``; its forward pass returns class scores
        of shape ``(n_samples, n_classes)`` whose argmax is the prediction. For two classes they are
        ``(-d / 2, d / 2)`` with d the decision function, so that their softmax is the logistic probability.
        It also has ``decision_function`` in scikit-learn's own shape, ``predict_proba`` where the estimator has it,
        and ``predict``, which returns labels.

    Raises
    ------
    NoGradientError
        If a step has no known differentiable form: trees, nearest neighbours, unknown classes. The message names it.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust import as_module
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    >>> module = as_module(model)
    >>> images = torch.tensor(X[:5], requires_grad=True)
    >>> loss = torch.nn.functional.cross_entropy(module(images), torch.tensor(y[:5]))
    >>> loss.backward()
    >>> images.grad.shape
    torch.Size([5, 64])
    >>> module.predict(images), model.predict(X[:5])
    (array([0, 1, 2, 3, 4]), array([0, 1, 2, 3, 4]))
    """
    # Buffers made in inference mode could not take part in any later backward pass.
    with torch.inference_mode(False):
        conversion = Conversion(gradient=gradient, dtype=dtype, device=device)
        if isinstance(estimator, NetworkModule):
            return estimator if gradient == "exact" else NetworkModule(estimator.step.network, gradient)
        if isinstance(estimator, EstimatorModule):
            return estimator if gradient == "exact" else estimator.with_gradient(gradient)
        if isinstance(estimator, torch.nn.Module):
            return NetworkModule(estimator, gradient)
        step = conversion(estimator)
        kind = ClassifierModule if isinstance(step, ClassifierStep) else TransformerModule
        return kind(step, estimator, conversion.tensor(np.zeros(0)), as_module).eval()


class Conversion:
    """Settings of one call of `as_module`; calling it converts nested estimators with the same settings.

    Converters registered with `register_module` get it as their second argument.

    Attributes
    ----------
    gradient : {"exact", "identity", "projection", "smooth", "skip"}
        How front ends are differentiated.
    dtype : torch.dtype
    device : torch.device
    role : {"transformer", "classifier"}
        What the estimator now being converted is used for.
    """

    def __init__(self, *, gradient="exact", dtype=None, device=None):
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(map(repr, GRADIENTS))}, got {gradient!r}.")
        self._gradient = gradient
        self._is_gradient_read = [False]
        self.dtype = _checked_dtype(dtype)
        self.device = torch.device("cpu" if device is None else device)
        self.role = None
        self._path = ()

    @property
    def gradient(self):
        """How front ends are differentiated."""
        self._is_gradient_read[0] = True
        return self._gradient

    def __call__(self, estimator, *, name=None, role=None):
        """Convert a nested, fitted estimator to a torch module, for a classifier a `ClassifierStep`.

        `name` is its name within the estimator that holds it, for error messages. `role` is "transformer" or
        "classifier"; None: "classifier" if it has ``classes_`` and ``predict``.
        """
        path = self._path if name is None else (*self._path, str(name))
        inner = object.__new__(type(self))
        vars(inner).update(vars(self), _path=path, _is_gradient_read=[False])
        if hasattr(estimator, "fit"):
            check_is_fitted(estimator)
        inner.role = role or ("classifier" if is_classifier(estimator) else "transformer")
        converter, reason = find_converter(estimator, inner.role)
        if converter is None:
            raise inner.no_gradient(estimator, reason)
        module = converter(estimator, inner)
        self._is_gradient_read[0] = True  # the nested conversion has it
        if self._gradient != "exact" and not inner._is_gradient_read[0] and not is_smooth(converter):
            warnings.warn(
                f"gradient={self._gradient!r} changes nothing about {inner.describe(estimator)}: its converter "
                f"{converter.__qualname__} does not read conversion.gradient, so that all modes are the same. Read "
                "it there, or register the converter with smooth=True if the step is smooth.",
                UserWarning,
                stacklevel=3,
            )
        if inner.role == "classifier" and not isinstance(module, ClassifierStep):
            module = ScoresStep(module, inner.classes(estimator))
        return module

    def tensor(self, array):
        """`array` (dense or sparse) as a tensor of this conversion's dtype on its device, never sharing memory."""
        if sparse.issparse(array):
            array = array.toarray()
        return torch.tensor(np.asarray(array, dtype=np.float64), dtype=self.dtype, device=self.device)

    def indices(self, array):
        """Integer `array` as an index tensor on this conversion's device."""
        return torch.tensor(np.asarray(array), dtype=torch.int64, device=self.device)

    def classes(self, estimator):
        """The labels of a classifier, in the order of its scores.

        Raises
        ------
        ValueError
            If it predicts several labels per sample.
        """
        classes = estimator.classes_
        if isinstance(classes, list) or np.ndim(classes) != 1:
            raise self.multilabel(estimator)
        return np.asarray(classes)

    def multilabel(self, estimator):
        """The error for classifiers with several labels per sample, to be raised by the caller."""
        return ValueError(
            f"{self.describe(estimator)} was fitted on multilabel targets, which as_module does not support. Fit "
            "one classifier per label."
        )

    def describe(self, estimator):
        """Name of `estimator` in messages: its name in the Pipeline, and its class."""
        kind = type(estimator).__name__
        return f"step {' > '.join(map(repr, self._path))} ({kind})" if self._path else kind

    def no_gradient(self, estimator, reason):
        """The `NoGradientError` that says what this step lacks, to be raised by the caller."""
        kind = type(estimator).__name__
        return NoGradientError(
            f"No gradient through {self.describe(estimator)}: {reason}. If it is differentiable, register its torch "
            f"form with @skrobust.bridge.register_module({kind}). Attacks that need no gradient still work on this "
            "model: Square, boundary or HopSkipJump, transfer from a differentiable model, and random noise."
        )


def _checked_dtype(dtype):
    if dtype is None:
        return torch.float64
    if isinstance(dtype, torch.dtype):
        if dtype in _DTYPES.values():
            return dtype
    else:
        try:
            return _DTYPES[np.dtype(dtype).name]
        except (TypeError, KeyError):
            pass
    raise ValueError(f"dtype must be torch.float64, torch.float32 or None, got {dtype!r}.")
