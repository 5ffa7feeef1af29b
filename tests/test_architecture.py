"""The repository's shape: who imports whom, what lies at the top, how long files are."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PARTS = ("augment", "classify", "labeling")
TOP = {*PARTS, "recipes", "tests", "pyproject.toml", "README.md", "LICENSE"}
MOST_LINES = 300

MODULES = sorted(
    path for part in (*PARTS, "recipes", "tests") for path in (REPOSITORY / part).rglob("*.py")
)


def _imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    package = path.relative_to(REPOSITORY).parent.parts
    return set(_names(ast.parse(path.read_text(encoding="utf-8")), package))


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


@pytest.mark.parametrize("path", _modules("recipes"), ids=_label)
def test_recipes_share_only_underscored_modules(path: Path) -> None:
    shared = [name.split(".") for name in _imports(path) if name.startswith("recipes.")]
    assert all(name[1].startswith("_") for name in shared)


@pytest.mark.parametrize("path", MODULES, ids=_label)
def test_module_says_what_it_is_for_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert path.parent.name == "tests" or text.count("\n") <= MOST_LINES


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
