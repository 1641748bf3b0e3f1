"""Registry of converters by class. Does not import torch, so that estimators can register when they are imported."""

import importlib
import inspect

# The package that defines a class -> our files with its converters, imported when such an estimator is first met.
_FAMILIES = {
    "sklearn.calibration": ["classifiers.calibration"],
    "sklearn.compose": ["structure.compose"],
    "sklearn.decomposition": ["transformers.decomposition", "transformers.features"],
    "sklearn.discriminant_analysis": ["classifiers.discriminant"],
    "sklearn.ensemble": ["classifiers.ensembles"],
    "sklearn.feature_selection": ["transformers.features"],
    "sklearn.frozen": ["structure.pipelines"],
    "sklearn.kernel_approximation": ["transformers.features"],
    "sklearn.linear_model": ["classifiers.linear"],
    "sklearn.model_selection": ["structure.pipelines", "classifiers.thresholds"],
    "sklearn.multiclass": ["classifiers.multiclass"],
    "sklearn.naive_bayes": ["classifiers.naive_bayes"],
    "sklearn.neural_network": ["classifiers.neural"],
    "sklearn.pipeline": ["structure.compose", "structure.pipelines"],
    "sklearn.preprocessing": ["transformers.features", "transformers.functions", "transformers.scalers"],
    "sklearn.random_projection": ["transformers.decomposition"],
    "sklearn.svm": ["classifiers.linear", "classifiers.svm"],
    "skorch": ["structure.skorch"],
}

_METHODS = {
    "transformer": ("transform",),
    "classifier": ("predict", "predict_proba", "decision_function"),
}

_converters = {}
_smooth_converters = set()


class NoGradientError(TypeError):
    """A step of the model has no differentiable form that the bridge knows."""


def register_module(*classes, role=None, smooth=False):
    """Register a function that turns a fitted estimator into a torch module.

    The function is used for the classes and their subclasses, unless a subclass redefines the method that the module
    computes (``transform``, or ``predict``, ``predict_proba`` and ``decision_function``): such a subclass needs a
    function of its own.

    Parameters
    ----------
    *classes : type
        Estimator classes.
    role : {"transformer", "classifier"} or None, default=None
        What the module computes, for a class that both transforms and predicts. None: its only role, or "classifier".
    smooth : bool, default=False
        Whether the step is smooth, so that gradient modes do not affect it. If not, a function that never reads
        ``conversion.gradient`` causes a warning with modes other than "exact".

    Returns
    -------
    decorator
        Takes and returns ``function(estimator, conversion) -> torch.nn.Module``. `conversion` is the running
        `Conversion`: its settings, and ``conversion(sub_estimator)`` for nested estimators. The module of a
        transformer maps X to ``transform(X)``; that of a classifier maps X to class scores of shape
        ``(n_samples, n_classes)`` whose argmax is the prediction, and may define ``predict_proba``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.base import BaseEstimator, TransformerMixin
    >>> from skrobust.bridge import as_module, register_module
    >>> class Squares(TransformerMixin, BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         self.n_features_in_ = X.shape[1]
    ...         return self
    ...     def transform(self, X):
    ...         return X**2
    >>> @register_module(Squares, smooth=True)
    ... def convert_squares(estimator, conversion):
    ...     class SquaresModule(torch.nn.Module):
    ...         def forward(self, X):
    ...             return X**2
    ...     return SquaresModule()
    >>> as_module(Squares().fit(np.ones((1, 2))))(torch.tensor([[1.0, 3.0]]))
    tensor([[1., 9.]], dtype=torch.float64)
    """
    if not classes or not all(isinstance(cls, type) for cls in classes):
        raise TypeError(f"register_module takes one or more classes, got {classes!r}.")
    if role not in (None, *_METHODS):
        raise ValueError(f"role must be 'transformer', 'classifier' or None, got {role!r}.")

    def decorator(function):
        for cls in classes:
            _converters[cls, role] = function
        if smooth:
            _smooth_converters.add(function)
        return function

    return decorator


def is_smooth(converter):
    """Whether gradient modes do not affect the modules of `converter`: registered as smooth, or one of ours."""
    return converter in _smooth_converters or converter.__module__.startswith("skrobust.bridge.")


def is_classifier(estimator):
    """Whether `estimator` predicts one of ``classes_``, with or without a base class of scikit-learn."""
    return hasattr(estimator, "classes_") and hasattr(estimator, "predict")


def find_converter(estimator, role):
    """Return the function that converts `estimator` in this `role`, or None and the reason why there is none."""
    cls = type(estimator)
    for base in cls.__mro__:
        for package, files in _FAMILIES.items():
            if f"{base.__module__}.".startswith(f"{package}."):
                for file in files:
                    importlib.import_module(f"skrobust.bridge.converters.{file}")
    for base in cls.__mro__:
        function = _converters.get((base, role))
        if function is None and role == ("classifier" if is_classifier(estimator) else "transformer"):
            function = _converters.get((base, None))
        if function is None:
            continue
        changed = [name for name in _METHODS[role] if _attribute(cls, name) is not _attribute(base, name)]
        if not changed:
            return function, None
        return None, f"it redefines {', '.join(changed)} of {base.__name__}, whose module is known"
    return None, f"no module is registered for a {role} of class {cls.__module__}.{cls.__qualname__}"


def _attribute(cls, name):
    return inspect.getattr_static(cls, name, None)
