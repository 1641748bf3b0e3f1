"""Documentation written once: numpydoc sections that a docstring leaves out are taken from another docstring."""

import inspect
import re

_SECTIONS = (
    *("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns"),
    *("See Also", "Notes", "References", "Examples"),
)
"""Sections in the order of numpydoc."""


def documented_like(*sources, sections=()):
    """Decorator that documents parameters of a function as other functions or classes document them.

    Parameters of the signature that the docstring leaves out are taken from the first of the `sources` that documents
    them; with a class as source, from its docstring.

    Parameters
    ----------
    *sources : callable
        Functions, classes or methods with numpydoc docstrings.
    sections : tuple of str, default=()
        Sections, such as "Raises", that are taken over as a whole where the docstring has none of that name.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> from skrobust.signals import documented_like
    >>> from skrobust.evaluation import corrupt
    >>> @documented_like(corrupt)
    ... def fog(X, severity):
    ...     "Fog."
    >>> "severity : int, 1 to 5" in fog.__doc__
    True
    """

    def decorate(function):
        complete_docstring(function, [source.__doc__ for source in sources], sections=sections)
        return function

    return decorate


def complete_docstring(target, sources, *, sections=("Returns", "Yields", "Raises")):
    """Complete a docstring in place: parameters in the order of the signature, and whole sections that are missing.

    The first of several descriptions in the docstrings `sources` is used. For a class the section "Attributes" is
    completed, too. A `target` without a docstring stays without.
    """
    if not target.__doc__:
        return
    head, own = _split(target.__doc__)
    parsed = [_split(source)[1] for source in sources if source]
    names = [name for name in inspect.signature(target).parameters if name not in ("self", "cls")]
    described = _merged("Parameters", [own, *parsed])
    extra = [name for name in _entries(own.get("Parameters", "")) if name not in names]
    own["Parameters"] = "\n".join(dict.fromkeys(described[name] for name in [*names, *extra] if name in described))
    if inspect.isclass(target):
        attributes = _merged("Attributes", [own, *parsed])
        own["Attributes"] = "\n".join(dict.fromkeys(attributes[name] for name in attributes if name not in names))
    for title in sections:
        own.setdefault(title, next((source[title] for source in parsed if title in source), ""))
    texts = [f"{title}\n{'-' * len(title)}\n{own[title]}" for title in sorted(own, key=_SECTIONS.index) if own[title]]
    target.__doc__ = "\n\n".join([head, *texts]) + "\n"


def complete_methods(cls, common="fit"):
    """Complete the docstrings of a class's public methods, each from the method of the same name of a base class.

    A method without a docstring gets that docstring as a whole. Other undocumented parameters, such as `X`, are
    documented as in the method `common`. `partial_fit` and class methods, which also return an instance, take its
    other sections, too.
    """
    for name, method in vars(cls).items():
        function = method.__func__ if isinstance(method, classmethod) else method
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        inherited = [getattr(base, name, None) for base in cls.__mro__[1:]]
        function.__doc__ = function.__doc__ or next(filter(None, map(inspect.getdoc, filter(None, inherited))), None)
        complete_docstring(function, [method.__doc__ for method in inherited if callable(method)])
        shared = [vars(base)[common].__doc__ for base in cls.__mro__ if common in vars(base)]
        whole = name == "partial_fit" or isinstance(method, classmethod)
        complete_docstring(function, shared, sections=("Returns", "Raises") if whole else ())


def _split(docstring):
    """Text before the first section, and the text of each section by its title."""
    head, *rest = re.split(r"(?:^|\n\n)(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(docstring))
    return head, {title: text.strip("\n") for title, text in zip(rest[::2], rest[1::2], strict=True)}


def _merged(title, docstrings):
    """Entries of one section of several docstrings; of several with the same name, the first."""
    merged = {}
    for sections in docstrings:
        for name, entry in _entries(sections.get(title, "")).items():
            merged.setdefault(name, entry)
    return merged


def _entries(section):
    """Description of each parameter of a section; parameters described together share theirs."""
    return {
        name.lstrip("*"): entry
        for entry in re.split(r"\n(?=\S)", section)
        if entry
        for name in entry.split("\n")[0].split(" :")[0].split(", ")
    }
