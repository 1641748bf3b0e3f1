"""Constructor parameters, each written once: name, type, default and allowed values."""

from dataclasses import dataclass, field, fields
from inspect import signature
from numbers import Integral, Real
from typing import dataclass_transform

from sklearn.utils._param_validation import Interval, StrOptions

from .docstrings import complete_docstring, complete_methods

AT_LEAST_1 = Interval(Integral, 1, None, closed="left")
NON_NEGATIVE = Interval(Real, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
FRACTION = Interval(Real, 0, 1, closed="right")
"""Allowed values that many parameters share."""


def parameter(default, *allowed, positional=False):
    """A constructor parameter of a class decorated with `parametrized`.

    Parameters
    ----------
    default : object
        Its default, of which None is also an allowed value. `dataclasses.MISSING`: the parameter is required.
    *allowed : type, set of str, str or constraint
        Allowed values, as in scikit-learn's ``_parameter_constraints``; a set lists names. Nothing: those of the base
        class's parameter of that name, or any value.
    positional : bool, default=False
        Whether it may be given by position.

    Returns
    -------
    dataclasses.Field
    """
    allowed = [StrOptions(one) if isinstance(one, set) else one for one in allowed]
    if allowed and default is None and "random_state" not in allowed:  # a constraint that includes None
        allowed.insert(0, None)
    return field(default=default, kw_only=not positional, metadata={"allowed": allowed})


@dataclass_transform(eq_default=False, field_specifiers=(parameter,))
def parametrized(estimator):
    """Class decorator for estimators: write the constructor from the class's annotated parameters.

    Like a dataclass, a class inherits the parameters of its bases. It replaces one by naming it again, and removes one
    by fixing its value, as a ``ClassVar``. Constraints, and descriptions in the docstrings of the class and of its
    methods, are inherited in the same way. The signature has the class's own parameters before inherited ones.

    Parameters
    ----------
    estimator : type
        A subclass of `sklearn.base.BaseEstimator`.

    Returns
    -------
    type
        `estimator`.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> from skrobust.signals import parameter, parametrized
    >>> @parametrized
    ... class Threshold(BaseEstimator):
    ...     level: float = parameter(0.5, float, positional=True)
    ...     kind: str = parameter("hard", {"hard", "soft"})
    >>> Threshold(0.3, kind="soft").get_params()
    {'kind': 'soft', 'level': 0.3}
    """
    estimator = dataclass(eq=False, repr=False)(estimator)
    allowed = {one.name: one.metadata["allowed"] for one in fields(estimator) if one.metadata.get("allowed")}
    estimator._parameter_constraints = {**getattr(estimator, "_parameter_constraints", {}), **allowed}
    depth = {}
    for level, base in enumerate(estimator.__mro__):
        for name in vars(base).get("__annotations__", ()):
            depth.setdefault(name, level)
    declared = signature(estimator.__init__)
    # Types are in the docstring.
    arguments = [one.replace(annotation=one.empty) for one in declared.parameters.values()]
    by_position = [one for one in arguments if one.kind != one.KEYWORD_ONLY]
    by_name = sorted((one for one in arguments if one.kind == one.KEYWORD_ONLY), key=lambda one: depth[one.name])
    ordered = declared.replace(parameters=[*by_position, *by_name], return_annotation=declared.empty)
    estimator.__init__.__signature__ = ordered
    complete_docstring(estimator, [base.__doc__ for base in estimator.__mro__[1:] if base is not object], sections=())
    complete_methods(estimator)
    return estimator
