"""Registry of certificates by class of step."""

_BUILDERS = {}


class NoCertificateError(ValueError):
    """A step of the model has no certificate."""


def register_certificate(step):
    """Register a certificate for Pipelines that begin with a class of step and end in a linear classifier.

    Parameters
    ----------
    step : type
        Front end or coder. Also used for subclasses without their own entry.

    Returns
    -------
    decorator
        For a function ``build(front, name, head, X, y, norm, clip)`` that returns a `Proof`. `head` is the `LinearHead`
        of the steps after `front`, `name` the step's name in the Pipeline (or None). If `step` is itself a classifier,
        `head` is None.

    Examples
    --------
    >>> from skrobust.certificates import register_certificate
    >>> class Mine:
    ...     pass
    >>> @register_certificate(Mine)
    ... def prove(front, name, head, X, y, norm, clip):
    ...     ...
    """

    def enter(build):
        _BUILDERS[step] = build
        return build

    return enter


def certificate_of(step):
    """The registered function for the class of `step`, or None."""
    return next((_BUILDERS[cls] for cls in type(step).__mro__ if cls in _BUILDERS), None)
