"""Files full of anything: what is read is taken or refused in one line, soon and in little memory.

hypothesis keeps what it has found in `.hypothesis/`, and tries that first the next time; how many
examples each test takes is told by `--examples`, and `--hypothesis-seed=0` repeats them.
"""

from __future__ import annotations

import json
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from recipe_doubles import save_generator

from augment import load_denoiser
from augment.pretrained.files import read_tensors
from classify import load_table
from labeling import LabelPolicy, load_labeler
from recipes.celeba_augment import PRESETS
from recipes.chain.command.command_line import parse
from recipes.chain.command.values import nested
from recipes.chain.command.written import dotted
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.study import NO_FLAGS, RunConfig

pytestmark = pytest.mark.faults

_MEGABYTES = 1000
_NUMBERS = [0, -1, 1, 2, 10**9, 10**30, 10**400, -(10**30), 1e308, float("nan"), float("inf")]
_ODD = st.sampled_from([*_NUMBERS, True, None, "", "x"])
_SCALARS = _ODD | st.integers() | st.floats() | st.text(max_size=8)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """The most that this process has ever had may grow by a GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert grown < _MEGABYTES


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a good generator, labeler and image."""
    root = tmp_path_factory.mktemp("fuzz")
    save_generator(root / "generator")
    embedded = Path(__file__).parents[2] / "labeling" / "weights" / "avatars"
    shutil.copytree(embedded, root / "labeler")
    return root


def _taken_or_refused(read: Callable[[], object]) -> None:
    """Nothing but a refusal may come of it, which `run` tells in one line."""
    with suppress(ValueError, OSError):
        read()


def _spoilt(good: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some of them changed, cut off or put in."""
    place = st.integers(0, max(len(good) - 1, 0))
    return st.builds(
        lambda at, length, new: good[:at] + new + good[at + length :],
        place,
        st.integers(0, 12) | st.just(len(good)),
        st.binary(max_size=12),
    )


_CELLS = st.sampled_from(
    ["1", "0", "", "-1", "yes", "2", "nan", "1e999", "a.png", "b.png", "../a", "train", "val"]
) | st.text(max_size=6)


@given(
    names=st.lists(
        st.sampled_from(["file_name", "split", "source", "seed", "A", "p_A", "path", "macro", ""])
        | st.text(max_size=5),
        max_size=6,
    ),
    rows=st.lists(st.lists(_CELLS, max_size=6), max_size=4),
    raw=st.none() | st.binary(max_size=60),
)
def test_tables(root: Path, names: list[str], rows: list[list[str]], raw: bytes | None) -> None:
    lines = [",".join(line) for line in [names, *rows]]
    content = "\n".join(lines).encode(errors="surrogatepass") if raw is None else raw
    (root / "metadata.csv").write_bytes(content)
    for name in ("a.png", "b.png"):
        (root / name).touch()
    _taken_or_refused(lambda: load_table(root))
    _taken_or_refused(lambda: load_table(root, ["A"]))


@given(
    found=st.dictionaries(
        st.sampled_from(sorted(dotted(RunConfig))) | st.text(max_size=6), _VALUES, max_size=3
    ),
    raw=st.none() | st.text(max_size=40),
)
def test_settings(root: Path, found: dict[str, Any], raw: str | None) -> None:
    file = root / "settings.yaml"
    file.write_text(yaml.safe_dump(found) if raw is None else raw, errors="replace")
    words = [f"--config={file}"]
    _taken_or_refused(lambda: parse(RunConfig, words, presets=PRESETS, skip=NO_FLAGS))


@given(found=st.dictionaries(st.sampled_from(sorted(dotted(SyntheticSet))), _VALUES, max_size=3))
def test_sets(found: dict[str, Any]) -> None:
    sets = {"own": nested(found)}
    _taken_or_refused(lambda: RunConfig(sets=sets, arms=["real", "own"]).synthetic_sets)


_RULE = st.dictionaries(
    st.sampled_from(["present", "absent", "temperature", "n", "doubt", "x"]), _VALUES, max_size=5
)


@given(
    rules=st.dictionaries(st.text(max_size=4), _RULE | _VALUES, max_size=3) | _VALUES,
    config=st.dictionaries(st.sampled_from(["precision", "band", "min_count", "x"]), _VALUES),
    labeler=_VALUES,
)
def test_policies(root: Path, rules: Any, config: dict[str, Any], labeler: Any) -> None:
    content = {"rules": rules, "config": config, "labeler": labeler}
    (root / "policy.json").write_text(json.dumps(content))
    _taken_or_refused(lambda: LabelPolicy.read(root / "policy.json"))


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every container within, with each of its keys or indices."""
    if not isinstance(content, (dict, list)):
        return []
    keys = content if isinstance(content, dict) else range(len(content))
    own = [(content, key) for key in keys]
    return own + [place for inner, key in own for place in _places(inner[key])]


@given(data=st.data())
def test_cards(root: Path, data: st.DataObject) -> None:
    """One value within a card or a configuration is anything, or the file's bytes are."""
    folder, name = data.draw(
        st.sampled_from(
            [
                ("labeler", "card.json"),
                ("generator", "card.json"),
                ("generator", "unet/config.json"),
                ("generator", "scheduler/scheduler_config.json"),
            ]
        )
    )
    file = root / folder / name
    good = file.read_bytes()
    content = json.loads(good)
    if data.draw(st.booleans()):
        within, key = data.draw(st.sampled_from([*_places(content), (content, "x")]))
        within[key] = data.draw(_VALUES)
        spoilt = json.dumps(content).encode()
    else:
        spoilt = data.draw(_spoilt(good))
    file.write_bytes(spoilt)
    load = load_labeler if folder == "labeler" else load_denoiser
    try:
        _taken_or_refused(lambda: load(root / folder))
    finally:
        file.write_bytes(good)


@given(data=st.data())
def test_headers_of_weights(root: Path, data: st.DataObject) -> None:
    """Of safetensors the length, the JSON and the offsets; of torch's the archive's bytes."""
    file = root / "generator" / "unet" / "diffusion_pytorch_model.safetensors"
    good = file.read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    if data.draw(st.booleans()):
        header = json.loads(good[8 : 8 + length])
        name = data.draw(st.sampled_from(sorted(header)))
        field = data.draw(st.sampled_from(["shape", "dtype", "data_offsets"]))
        header[name] = {**header[name], field: data.draw(st.just([2**40]) | _VALUES)}
        told = json.dumps(header).encode()
        spoilt = struct.pack("<Q", len(told)) + told + good[8 + length :]
    else:
        spoilt = data.draw(_spoilt(good[: 8 + length])) + good[8 + length :]
    file.write_bytes(spoilt)
    try:
        _taken_or_refused(lambda: load_denoiser(root / "generator"))
    finally:
        file.write_bytes(good)


@given(data=st.data())
def test_archives_of_tensors(root: Path, data: st.DataObject) -> None:
    file = root / "model.pt"
    if not file.exists():
        import torch

        torch.save({"a": torch.ones(2), "b": torch.zeros(3, 3)}, file)
    good = file.read_bytes()
    (root / "spoilt.pt").write_bytes(data.draw(_spoilt(good)))
    _taken_or_refused(lambda: read_tensors(root / "spoilt.pt"))
