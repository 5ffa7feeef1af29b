"""The repository's shape: who imports whom, what lies at the top, how long files are."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PARTS = ("augment", "classify", "labeling")
TOP = {*PARTS, "recipes", "tests", "pyproject.toml", "README.md", "LICENSE"}
MOST_LINES = 400
FEW_LINES = 60
"""A module of fewer lines with one importer would be better off inside it."""

MODULES = sorted(
    path for part in (*PARTS, "recipes", "tests") for path in (REPOSITORY / part).rglob("*.py")
)


@cache
def _imports(path: Path) -> frozenset[str]:
    """Dotted names of everything a file imports, wherever in it."""
    package = path.relative_to(REPOSITORY).parent.parts
    return frozenset(_names(ast.parse(path.read_text(encoding="utf-8")), package))


def _names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)


def _label(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _modules(*parts: str) -> list[Path]:
    return [path for path in MODULES if path.relative_to(REPOSITORY).parts[0] in parts]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import classify.study as s", "classify.study"),
        ("from classify import fit", "classify.fit"),
        ("def f():\n    import labeling", "labeling"),
        ("from . import sampler", "augment.guidance.sampler"),
        ("from ...classify import fit", "classify.fit"),
    ],
)
def test_an_import_is_seen_in_every_form(line: str, name: str) -> None:
    assert name in set(_names(ast.parse(line), ("augment", "guidance")))


@pytest.mark.parametrize("path", _modules(*PARTS), ids=_label)
def test_the_three_packages_do_not_know_each_other(path: Path) -> None:
    own = path.relative_to(REPOSITORY).parts[0]
    others = {*PARTS, "recipes", "tests"} - {own}
    assert not {name.split(".")[0] for name in _imports(path)} & others


@pytest.mark.parametrize("path", _modules(*PARTS), ids=_label)
def test_packages_read_no_resource_of_another_by_its_name(path: Path) -> None:
    others = {*PARTS, "recipes"} - {path.relative_to(REPOSITORY).parts[0]}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = [call.args for call in ast.walk(tree) if isinstance(call, ast.Call)]
    words = {a.value for args in called for a in args if isinstance(a, ast.Constant)}
    assert not {str(word).split(".")[0] for word in words if str(word).isidentifier()} & others


@pytest.mark.parametrize("path", _modules(*PARTS), ids=_label)
def test_command_lines_are_recipes(path: Path) -> None:
    assert path.name != "__main__.py"
    assert not {name.split(".")[0] for name in _imports(path)} & {"argparse", "jsonargparse"}


SHARED_FOLDER = REPOSITORY / "recipes" / "chain"
SHARED = sorted(SHARED_FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", SHARED, ids=_label)
def test_what_recipes_share_knows_no_recipe(path: Path) -> None:
    shared = [name.split(".") for name in _imports(path) if name.startswith("recipes.")]
    assert all(name[1] == "chain" for name in shared)


@pytest.mark.parametrize("path", MODULES, ids=_label)
def test_module_says_what_it_is_for_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert path.parent.name == "tests" or text.count("\n") <= MOST_LINES


DOTTED = {
    ".".join(p.relative_to(REPOSITORY).with_suffix("").parts): p
    for p in _modules(*PARTS, "recipes")
}


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Not even for annotations alone."""
    imported = {name: _imports(path) & DOTTED.keys() for name, path in DOTTED.items()}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names them


def test_a_folder_of_the_chain_uses_those_that_are_told_above_it() -> None:
    lines = ast.get_docstring(ast.parse((SHARED_FOLDER / "__init__.py").read_text())) or ""
    order = [line.split()[0] for line in lines.splitlines() if line.startswith("    ")]
    assert {f"{name}/" for name in order} == {f"{p.name}/" for p in SHARED_FOLDER.glob("[a-z]*/")}
    for path in SHARED:
        own = path.relative_to(SHARED_FOLDER).parts[0]
        used = {name.split(".")[2] for name in _imports(path) & DOTTED.keys() if "chain." in name}
        if own in order:
            assert used & set(order) <= set(order[: order.index(own) + 1]), _label(path)


def test_no_module_is_a_fragment_of_its_only_importer() -> None:
    parts = DOTTED.values()
    importers = {name: [p for p in parts if name in _imports(p)] for name in DOTTED}
    fragments = [
        _label(path)
        for name, path in DOTTED.items()
        if path.name != "__init__.py"
        and len(importers[name]) == 1
        and importers[name][0].name != "__init__.py"  # which makes it public
        and path.read_text(encoding="utf-8").count("\n") < FEW_LINES
    ]
    assert not fragments


@pytest.mark.parametrize("path", _modules(*PARTS, "recipes"), ids=_label)
def test_every_system_can_import_every_module(path: Path) -> None:
    """What only POSIX has is imported where it is used, and done without elsewhere."""
    top = ast.Module(
        [n for n in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(n, "names")], []
    )
    posix = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    assert not {name.split(".")[0] for name in _names(top, ())} & posix


def test_nothing_else_lies_at_the_top() -> None:
    listed = subprocess.run(
        ["git", "ls-files"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP
