"""The plan of the house: what loads what, and which way imports run."""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest

import skrobust

PACKAGE = pathlib.Path(skrobust.__file__).parent

FLOORS = {
    "signals": 0,  # the ground on which floor 1 stands
    "pursuits": 1,
    "bridge": 1,
    "datasets": 1,
    "dictionaries": 2,
    "nn": 2,
    "attacks": 2,
    "frontends": 3,
    "coders": 3,
    "classifiers": 3,
    "certificates": 4,
    "evaluation": 5,
    "cli": 6,
}


def _rooms_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level >= 2:
                yield (node.module or "").split(".")[0] or None
            elif node.level == 0 and (node.module or "").split(".")[0] == "skrobust":
                parts = node.module.split(".")
                yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "skrobust" and len(parts) > 1:
                    yield parts[1]


def test_imports_go_to_lower_floors():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if len(relative.parts) < 2:
            continue
        room = relative.parts[0]
        for other in _rooms_imported(path):
            if other in FLOORS and other != room and FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{relative}: imports {other}")
    assert not wrong


def test_every_room_has_a_floor():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(FLOORS)


def test_no_file_is_longer_than_500_lines():
    long = [str(p) for p in PACKAGE.rglob("*.py") if len(p.read_text(encoding="utf8").splitlines()) > 500]
    assert not long


@pytest.mark.parametrize(
    "statement",
    [
        "import skrobust",
        "import skrobust.signals, skrobust.pursuits, skrobust.bridge, skrobust.frontends, skrobust.datasets",
        "import skrobust.evaluation, skrobust.cli",
        "from skrobust import WaveletSparsifier; WaveletSparsifier().fit_transform([[0.0, 1.0, 2.0, 3.0]])",
    ],
)
def test_torch_and_matplotlib_load_late(statement):
    code = f"import sys; {statement}; print([m for m in ('torch', 'matplotlib', 'skorch') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_public_names_resolve():
    for name in skrobust.__all__:
        assert getattr(skrobust, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        skrobust.nonsense  # noqa: B018


def test_every_public_name_is_on_the_page_of_names():
    page = (pathlib.Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf8")
    sections = {section.split()[0]: section.split() for section in page.split(".. currentmodule:: ")[1:]}
    missing = []
    for room in [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists() and path.name != "cli"]:
        module = importlib.import_module(f"skrobust.{room}")
        listed = {*sections["skrobust"], *sections.get(module.__name__, ())}
        missing += [f"{module.__name__}.{name}" for name in module.__all__ if name not in listed]
    assert not missing
