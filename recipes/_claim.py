"""A run's folder: taken by the first run, and refused to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from classify.files import write_text
from recipes._settings import RunConfig

__all__ = ["check_claim", "check_folder", "claim"]

_CIRCUMSTANCES = frozenset({"out", "devices", "num_nodes", "preview"})
"""Settings that do not change the results: another value continues the same run."""
_RESULTS = ("scores.csv", "summary.csv", "comparison.csv", "report.html")
"""Files that a run writes last, over those of its own earlier session."""


def claim(config: RunConfig) -> None:
    """Write `config.yaml` into the run's folder, unless the same run stands there.

    Raises:
        ValueError: see `check_claim`.
    """
    check_claim(config)
    path = config.out / "config.yaml"
    if not path.is_file():
        config.out.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(config.record(), sort_keys=False))


def check_claim(config: RunConfig) -> None:
    """Check that the run's folder is free or holds a run with the same settings; write nothing.

    Raises:
        ValueError: another run stands there, and the first setting that differs is named; or
            something that is no run of ours.
    """
    check_folder(config.out)
    path, record = config.out / "config.yaml", config.record()
    if not path.is_file():
        if results := [name for name in _RESULTS if (config.out / name).exists()]:
            raise ValueError(
                f"{config.out} holds {results[0]} but no config.yaml, so no run of ours; "
                "give another --out"
            )
        return
    try:
        found = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} holds no settings of a run; give another --out") from error
    for name in sorted(record.keys() - _CIRCUMSTANCES):
        if found.get(name) != record[name]:
            old, new = _difference(name, found.get(name), record[name])
            raise ValueError(
                f"{config.out} holds a run with {old}, this one has {new}; "
                "give another --out, or the settings in its config.yaml"
            )


def check_folder(out: Path) -> None:
    """Refuse a path at or above which a file stands."""
    if blocking := [p for p in (out, *out.parents) if p.exists() and not p.is_dir()]:
        raise ValueError(f"out is {out}, but {blocking[0]} is a file; give a folder")


def _difference(name: str, old: Any, new: Any) -> tuple[str, str]:
    """The first differing setting inside a group, by its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in new if old.get(key) != new[key])
        return _difference(f"{name}.{key}", old.get(key), new[key])
    return f"{name} {old}", f"{name} {new}"
