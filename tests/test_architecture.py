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


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, wherever in it."""
    package = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_imports_are_seen_in_every_form(tmp_path: Path) -> None:
    file = REPOSITORY / "augment" / "guidance" / "none.py"  # for its place alone
    source = tmp_path / "a.py"
    source.write_text("import x.y as z\nfrom p import q\ndef f():\n    import late\n")
    assert MODULES
    assert file.parent.is_dir()
    found = set(_imports_of(source))
    assert {"x.y", "p", "p.q", "late"} <= found


def _imports_of(source: Path) -> Iterator[str]:
    moved = REPOSITORY / "augment" / source.name
    text = source.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or moved.stem
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("path", _modules(*PARTS), ids=_label)
def test_the_three_packages_do_not_know_each_other(path: Path) -> None:
    own = path.relative_to(REPOSITORY).parts[0]
    others = {*PARTS, "recipes", "tests"} - {own}
    assert not {name for name in _imports(path) if name.split(".")[0] in others}


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
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP
