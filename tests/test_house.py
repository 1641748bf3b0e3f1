"""The plan of the house: what loads what, and which way imports run."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import skrobust

PACKAGE = pathlib.Path(skrobust.__file__).parent

FLOORS = {
    "signals": 0,
    "kernels": 1,
    "operators": 2,
    "pursuits": 3,
    "bridge": 3,
    "datasets": 3,
    "dictionaries": 4,
    "nn": 4,
    "attacks": 4,
    "estimators": 5,
    "certificates": 6,
    "displays.drawing": 6,
    "evaluation": 7,
    "displays": 8,
    "cli": 9,
}
"""A module imports rooms on lower floors only, or its own room."""

MOST_FILES = 17
"""Python files in one folder."""


def _modules():
    """Dotted name and path of each module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _room(module):
    """Room of a module, the longest name of FLOORS that it begins with."""
    inside = module.removeprefix("skrobust").removeprefix(".")
    fitting = [room for room in FLOORS if inside == room or inside.startswith(room + ".")]
    return max(fitting, key=len, default=None)


def _imports(module, path):
    """Modules of the package that a module imports, with the names it takes from each, lazily or not."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            if target.split(".")[0] == "skrobust":
                yield target, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "skrobust":
                    yield alias.name, []


MODULES = dict(_modules())


def test_imports_go_to_lower_floors():
    wrong = []
    for module, path in MODULES.items():
        room = _room(module)
        for target, names in _imports(module, path) if room else ():
            targets = [f"{target}.{name}" for name in names if f"{target}.{name}" in MODULES] or [target]
            for other in {_room(name) for name in targets} - {None, room}:
                if FLOORS[other] >= FLOORS[room]:
                    wrong.append(f"{module} imports {target}")
    assert not wrong


def test_no_import_circles():
    """Module by module, imports inside functions included; a package stands for its `__init__` alone."""
    graph = {}
    for module, path in MODULES.items():
        graph[module] = set()
        for target, names in _imports(module, path):
            inner = {f"{target}.{name}" for name in names} & set(MODULES)
            graph[module] |= inner or ({target} & set(MODULES))
        graph[module].discard(module)
    done, circles = set(), []

    def visit(module, trail):
        if module in trail:
            circles.append(" -> ".join([*trail[trail.index(module) :], module]))
        elif module not in done:
            for target in graph[module]:
                visit(target, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    assert not circles


def test_private_names_stay_in_their_room():
    wrong = []
    for module, path in MODULES.items():
        for target, names in _imports(module, path):
            if _room(target) == _room(module):
                continue
            private = [part for part in (*target.split("."), *names) if part.startswith("_") and part != "__version__"]
            wrong += [f"{module} takes {name} of {target}" for name in private]
    assert not wrong


def _defined_private_names():
    """Private names that the package defines or assigns, dunder names left out."""
    names = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in names if re.fullmatch("_[a-zA-Z]\\w*", name)}


def _private_uses(source, private):
    """Private names of the package that a script or test imports, reads, or names in a string.

    Exempt are attributes of `self`, which may be inherited from a base class that is meant for it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "skrobust":
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            yield from (part for part in parts if part.startswith("_") and part != "__version__")
        elif isinstance(node, ast.Attribute) and node.attr in private and ast.unparse(node.value) != "self":
            yield node.attr
        elif isinstance(node, ast.Call):  # monkeypatch.setattr(owner, "_name", ...)
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if ast.unparse(node.func).endswith("attr"):
                yield from (text for text in texts if text.rpartition(".")[2] in private)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # code run in another process
            yield from (name for name in re.findall(r"\w\.(_[a-z]\w*)", node.value) if name in private)


def test_tests_and_benchmarks_use_public_names():
    root, private = PACKAGE.parent, _defined_private_names()
    paths = [path for folder in ("tests", "benchmarks", "docs") for path in (root / folder).rglob("*.py")]
    assert len(paths) > 100
    paths.remove(root / "tests" / "test_house.py")  # quotes such uses below
    uses = {str(path): sorted(set(_private_uses(path.read_text(encoding="utf8"), private))) for path in paths}
    assert {path: names for path, names in uses.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from skrobust.kernels.cache import _read",
        "from skrobust.kernels._cache import read",
        "coder._layout",
        "cache._read.cache_clear()",
        'monkeypatch.setattr(cache, "_read", None)',
        'monkeypatch.setattr("skrobust.kernels.cache._read", None)',
        'getattr(coder, "_layout")',
        'code = "from skrobust import kernels; kernels._read(1)"',
    ],
)
def test_private_names_in_tests_are_noticed(source):
    private = _defined_private_names()
    assert {"_read", "_layout"} <= private
    assert list(_private_uses(source, private))


def test_private_names_of_others_are_allowed():
    source = "import os\nos._exit(1)\nclass A:\n    def f(self):\n        self._layout\nx = 'a file_read.txt'"
    assert not list(_private_uses(source, _defined_private_names()))


def test_floors_and_rooms_match():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == {room.split(".")[0] for room in FLOORS}
    assert all((PACKAGE / room.replace(".", "/") / "__init__.py").exists() for room in FLOORS)


def test_no_folder_is_crowded():
    sizes = {folder: len(list(folder.glob("*.py"))) for folder in PACKAGE.rglob("*") if folder.is_dir()}
    assert {str(folder): size for folder, size in sizes.items() if size > MOST_FILES} == {}


def test_no_file_is_longer_than_500_lines():
    long = [str(p) for p in PACKAGE.rglob("*.py") if len(p.read_text(encoding="utf8").splitlines()) > 500]
    assert not long


@pytest.mark.parametrize(
    "statement",
    [
        "import skrobust",
        "import skrobust.signals, skrobust.pursuits, skrobust.bridge, skrobust.estimators, skrobust.datasets",
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
    for room in sorted({room.split(".")[0] for room in FLOORS} - {"cli", "kernels"}):
        module = importlib.import_module(f"skrobust.{room}")
        listed = {*sections["skrobust"], *sections.get(module.__name__, ())}
        missing += [f"{module.__name__}.{name}" for name in module.__all__ if name not in listed]
    assert not missing
