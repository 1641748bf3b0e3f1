"""Which class of step has a certificate, and how it is proved."""

_BUILDERS = {}


def register_certificate(step):
    """Enter a proof for Pipelines that begin with a class of step and end in a linear classifier.

    Parameters
    ----------
    step : type
        Front end or coder. Subclasses are found, too, unless they have an entry of their own.

    Returns
    -------
    decorator
        For a function ``build(front, name, head, X, y, norm, clip)`` that returns a `Proof`. `head` is the `LinearHead`
        of the steps behind `front`, `name` the step's name in the Pipeline (or None).

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
