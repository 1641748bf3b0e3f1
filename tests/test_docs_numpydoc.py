"""Docstrings of all public names, as `help` shows them, follow numpydoc."""

import dataclasses
import importlib
import inspect
import pathlib

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "api.md"

CHECKS = {
    "GL06",  # unknown section
    "GL07",  # sections out of order
    "GL08",  # no docstring
    "SS01",  # no summary
    "SS02",  # summary does not start with a capital letter
    "SS03",  # summary does not end with a period
    "SS04",  # summary with leading spaces
    "SS06",  # summary of more than one line
    "PR01",  # parameter not documented
    "PR02",  # documented parameter that does not exist
    "PR03",  # parameters out of order
    "PR04",  # parameter without type
    "PR05",  # type ends with a period
    "PR06",  # "integer" for "int", and the like
    "PR08",  # description does not start with a capital letter
    "PR09",  # description does not end with a period
    "PR10",  # no space before the colon
    "RT01",  # no section "Returns"
    "RT05",  # description of the value does not end with a period
}
"""Checks of numpydoc that functions and classes pass."""
OF_METHODS = CHECKS - {"PR01", "RT01"}
"""Those that methods pass: one sentence may document a method with all its arguments."""
MADE_FOR_USERS = {
    "ClassifierModule": "as_module",
    "TransformerModule": "as_module",
    "Conversion": "as_module",
    "RobustScorer": "make_robust_scorer",
    **dict.fromkeys(("Search", "Ball", "Goal", "GradientModel", "ScoreModel"), "the loop of an attack"),
}
"""Classes that users get from what makes them: their constructors need no documentation."""


def _names():
    """Module, qualified name and object of each function, class and method on the page of names."""
    for section in PAGE.read_text(encoding="utf8").split(".. currentmodule:: ")[1:]:
        module, *names = section.split("```")[0].split()
        for name in names[names.index("api") + 1 :]:
            public_object = getattr(importlib.import_module(module), name)
            if inspect.isfunction(public_object) or inspect.isclass(public_object):
                yield public_object.__module__, name, public_object
            for member in dir(public_object) if inspect.isclass(public_object) else ():
                method = inspect.getattr_static(public_object, member)
                method = getattr(method, "__func__", method)  # of class methods
                if inspect.isfunction(method) and method.__qualname__ == f"{name}.{member}" and member[0] != "_":
                    yield public_object.__module__, method.__qualname__, method


NAMES = {f"{module}.{name}": public_object for module, name, public_object in _names()}


def _is_result(public_object):
    """Whether a class of results describes all its fields as attributes: users read them, and write none."""
    if not inspect.isclass(public_object):
        return False
    names = (
        {one.name for one in dataclasses.fields(public_object)} if dataclasses.is_dataclass(public_object) else set()
    )
    names |= set(getattr(public_object, "_fields", ()))
    attributes = NumpyDocString(inspect.getdoc(public_object))["Attributes"]
    return bool(names) and names <= {name for entry in attributes for name in entry.name.split(", ")}


@pytest.mark.parametrize("name", NAMES)
def test_docstring(name):
    public_object = NAMES[name]
    excused = "." in public_object.__qualname__ or public_object.__name__ in MADE_FOR_USERS or _is_result(public_object)
    checks = OF_METHODS if excused else CHECKS
    wrong = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in checks]
    assert not wrong
