"""Runs whose sets are guided by what the run has: made and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from recipe_doubles import save_folder, save_generator, tiny_flags

import recipes.chain.study
from augment import Boost, Temperature
from recipes.celeba_augment import main

SETS = """
near: {particles: {group: 3, space: activations}, guidance: {}, count: 6}
deep: {jacobian: {encoder: activations, rank: 2, every: 2}, count: 2}
exact: {jacobian: {}, count: 2}
"""
OFFERED = ("boost", "rescaled", "jepa", "unsure", "apart")


def _interrupted(*_given: object, **_more: object) -> None:
    raise InterruptedError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic sets of a run that ends where its classifiers would be trained."""
    root = tmp_path_factory.mktemp("terms")
    save_generator(root / "generator")
    save_folder(root / "data")
    (root / "sets.yaml").write_text(SETS)
    flags = tiny_flags(root / "data", root / "generator", root / "out")
    arms = ["--arms", "real", *OFFERED, "near", "deep", "exact"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes.chain.study, "run_study", _interrupted)
        with pytest.raises(InterruptedError):
            main([*flags, f"--sets={root / 'sets.yaml'}", *arms])
    return root / "out" / "synthetic"


def _record(made: Path, name: str) -> dict[str, object]:
    record: dict[str, object] = json.loads((made / name / "settings.json").read_text())
    return record


def test_starts_and_temperatures_stand_in_the_record(made: Path) -> None:
    assert _record(made, "boost")["boost"] == repr(Boost())
    assert _record(made, "boost")["guidance"] is None
    assert _record(made, "rescaled")["temperature"] == vars(Temperature(rescale=0.95))


def test_guidances_stand_in_the_record_with_the_labeler_that_they_go_through(made: Path) -> None:
    found = {
        name: _record(made, name)["guidance"]
        for name in ("jepa", "unsure", "apart", "near", "exact")
    }
    assert {name: sorted(record) for name, record in found.items() if name != "near"} == {  # type: ignore[call-overload]
        **{"jepa": ["jacobian"], "unsure": ["labeler", "uncertainty"], "apart": ["particles"]},
        **{"exact": ["jacobian", "labeler"]},
    }
    assert found["near"]["distance"] == "activations"  # type: ignore[index]
    assert found["near"]["particles"]["group"] == 3  # type: ignore[index]


def test_images_that_depend_on_one_another_say_so(made: Path) -> None:
    for name, group in (("apart", 4), ("near", 3)):
        table = pd.read_csv(made / name / "metadata.csv")
        assert (table["seed_group"] == table["seed"] // group).all()
    assert "seed_group" not in pd.read_csv(made / "jepa" / "metadata.csv")


def test_every_guidance_moves_images(made: Path) -> None:
    plain = {path.name: path.read_bytes() for path in (made / "rescaled").glob("*.png")}
    for name in ("jepa", "unsure", "apart", "near", "deep", "exact"):
        images = list((made / name).glob("*.png"))
        assert images
        assert all(path.read_bytes() != plain.get(path.name) for path in images)


def test_a_labeler_that_jepa_guidance_could_not_descend_is_refused_before_any_work(
    tmp_path: Path,
) -> None:
    save_generator(tmp_path / "generator")
    save_folder(tmp_path / "data")
    flags = tiny_flags(tmp_path / "data", tmp_path / "generator", tmp_path / "out")
    sets = ["--sets", "{deep: {jacobian: {}}}", "--arms", "real", "deep"]
    with pytest.raises(ValueError, match=r"ReLU and linear layers alone.* give jacobian.encoder"):
        main([*flags, *sets, "--labeler", "avatars"])
    assert not (tmp_path / "out").exists()
