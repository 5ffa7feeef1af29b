"""Which labels synthetic images carry: told, the same in all sets, and kept where insisted on."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from recipe_doubles import save_folder, save_generator, tiny_flags

import recipes.chain.study
from augment import Boost, SamplerConfig
from labeling import LabelPolicy, Rule
from recipes.celeba_augment import main
from recipes.chain.labels.trust import (
    counts_by_split,
    impossible,
    tell_counts,
    trusted,
)
from recipes.chain.settings.sets import GuidanceConfig, StartSettings, SteeringConfig, SyntheticSet


class _Run:
    """As `recipes.chain.run.Run`."""

    def __init__(self, *insisted: str) -> None:
        self.config = SimpleNamespace(labels=SimpleNamespace(trust=list(insisted)))
        self.notes, self.cautions, self.reservations = list[str](), list[str](), list[str]()
        self.note, self.caution = self.notes.append, self.cautions.append
        self.reserve = self.reservations.append


def _run(*insisted: str) -> Any:
    return _Run(*insisted)


VAL = pd.DataFrame(
    {"Male": np.repeat([1.0, 0.0], 30), "Bald": [1.0] * 2 + [0.0] * 58, "Hat": [1.0] * 2 + [0] * 58}
)
P = VAL.to_numpy() * 0.8 + 0.1
POLICY = LabelPolicy(rules={name: Rule(present=0.5, absent=0.5) for name in VAL})
WHY = "2 of 60 validation images have it, 4 are needed"


def _trusted(*insisted: str) -> tuple[LabelPolicy, Any]:
    run = _run(*insisted)
    return trusted(run, POLICY, VAL, P, list(VAL)), run


def test_what_is_doubted_is_said_before_the_verdict() -> None:
    policy, run = _trusted()
    assert policy.doubts == {"Bald": WHY, "Hat": WHY}
    [told] = run.reservations
    assert told.startswith(f"No synthetic image has a label of Bald and Hat ({WHY}): such labels")
    with pytest.raises(ValueError, match=r"no attribute's labels can be trusted \(Bald: 2 of 60"):
        trusted(run, POLICY, VAL, P[:, 1:], ["Bald", "Hat"])


def test_labels_can_be_insisted_on_and_are_cautioned_of() -> None:
    policy, run = _trusted("Hat")
    assert policy.doubts == {"Bald": WHY}
    assert run.cautions == [f"Labels of Hat ({WHY}) are kept by labels.trust."]
    assert _trusted("all")[0].doubts == {}
    with pytest.raises(ValueError, match=r"labels\.trust names Hatt; the labeler gives Male, Bald"):
        _trusted("Hatt")


def test_counts_of_few_images_are_told_and_what_no_score_counts() -> None:
    table = pd.DataFrame({"split": ["train"] * 30 + ["val"] * 20 + ["test"] * 20})
    table["Bald"] = [1.0] * 3 + [0.0] * 65 + [1.0] * 2
    table["Young"] = [1.0, 0.0] * 25 + [1.0] * 19 + [np.nan]
    table["Male"] = [1.0, 0.0] * 35
    run = _run()
    tell_counts(run, counts_by_split(table, ["Bald", "Young", "Male"]))
    assert run.notes == [
        "Few labelled images in train / val / test: Bald: 3 / 0 / 2, Young (absent): 15 / 10 / 0."
    ]
    assert run.reservations == [
        "Macro F1 is over 2 of 3 attributes; the test images show one value only of Young."
    ]


def test_a_share_that_cannot_be_is_one_in_every_set_that_is_made_freely() -> None:
    counts = pd.DataFrame({"train": [15, 150], "not_train": [285, 150]}, index=["Hat", "Male"])
    noise = pd.DataFrame({"Hat": [1.0] * 300, "Male": 1.0})
    usual = pd.DataFrame({"Hat": [1.0] * 20 + [0.0] * 280, "Male": 1.0})
    sets = {"plain": usual, "minority": noise}
    found = impossible(counts, sets, [])
    why = "seen in 100% of the synthetic images and in 5% of the real ones, in the set minority"
    assert found == {"Hat": why}
    assert impossible(counts, sets, ["Hat"]) == impossible(counts, sets, ["all"]) == {}
    assert impossible(counts, {"asked": noise.assign(target_Hat=1.0)}, []) == {}


@pytest.mark.parametrize(
    ("settings", "free"),
    [
        ({"guidance": GuidanceConfig(), "steering": SteeringConfig()}, True),
        ({"start": StartSettings(boost=Boost())}, True),
        ({"folder": Path("hats")}, False),
        ({"sampler": SamplerConfig(label=3)}, False),
        ({"start": StartSettings(rows="rare")}, False),
    ],
)
def test_what_may_be_anything_is_made_here_of_no_class_and_from_no_image(
    settings: dict[str, Any], free: bool
) -> None:
    assert SyntheticSet(**settings).draws_freely is free


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator, and images of which 3 of 12 val images have a hat."""
    root = tmp_path_factory.mktemp("trust")
    save_generator(root / "generator")
    splits = ("train",) * 12 + ("val",) * 12 + ("test",) * 8
    save_folder(root / "data", attributes=("Male", "Smiling", "Hat"), splits=splits)
    table = pd.read_csv(root / "data" / "metadata.csv")
    table["Hat"] = [1, 0, 0, 0] * 8
    table.to_csv(root / "data" / "metadata.csv", index=False)
    return root


def _flags(root: Path, out: Path) -> list[str]:
    flags = tiny_flags(root / "data", root / "generator", out)
    flags.remove("--labels.trust=[all]")
    return [*flags, "--labels.trust=[Male, Smiling]", "--arms", "real", "plain", "minority"]


def test_a_whole_run_leaves_the_cells_empty_and_its_verdict_begins_with_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main([*_flags(root, out), "--study.seeds=1"])
    printed = capsys.readouterr().out
    verdict = next(line for line in printed.splitlines() if line.startswith("Verdict: "))
    hat = "No synthetic image has a label of Hat (3 of 12 validation images have it, 4 are needed)"
    assert verdict.startswith(f"Verdict: {hat}")
    assert "This study can see next to nothing. One seed has no interval" in verdict
    assert printed.index("This study can see next to nothing") < printed.index("Training")
    assert "Few labelled images in train / val / test: Male: 6 / 6 / 4" in printed
    for name in ("plain", "minority"):
        file = pd.read_csv(out / "synthetic" / name / "metadata.csv")
        assert file["Hat"].isna().all()
        assert file[["Male", "p_Hat"]].notna().all(axis=None)
    trust = pd.read_csv(out / "label_trust.csv", keep_default_na=False).set_index("attribute")
    assert trust["doubt"].ne("").to_dict() == {"Male": False, "Smiling": False, "Hat": True}
    assert hat in (out / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    quality = pd.read_csv(out / "label_quality.csv").query("group == 'all'")
    assert (quality["n"] == 12).all()  # the labeler itself is judged all the same


def test_what_would_want_such_labels_is_refused_before_any_image_is_made(
    root: Path, tmp_path: Path
) -> None:
    flags = _flags(root, tmp_path / "out")
    with pytest.raises(ValueError, match=r"quota\.wanted has 'Hat=1', but generated images get no"):
        main([*flags, '--quota.wanted={"Hat=1": 2}'])
    alone = '{"alone": {"sets": ["plain"], "real": "none"}}'
    with pytest.raises(ValueError, match=r"arm alone trains on no real image, .* no label of Hat"):
        main([*flags[:-4], f"--define_arms={alone}", f"--out={tmp_path / 'alone'}"])
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with pytest.raises(ValueError, match="no attribute's labels can be trusted"):
        main([*flags, "--labels.trust=[]", f"--out={tmp_path / 'none'}", "--attributes", "Hat"])


def test_what_noise_would_be_labelled_is_emptied_in_all_sets_after_the_fact(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def stop(arms: Any, *_: object, **__: object) -> pd.DataFrame:
        seen.update(arms)
        raise InterruptedError

    monkeypatch.setattr(recipes.chain.study, "run_study", stop)
    monkeypatch.setattr(
        "recipes.chain.images.synthesis.impossible", lambda *_: {"Smiling": "seen in 100 %"}
    )
    out = tmp_path / "out"
    for _ in range(2):  # as a run that goes on
        with pytest.raises(InterruptedError):
            main(_flags(root, out))
        for name in ("plain", "minority"):
            rows = cast(pd.DataFrame, seen[name].table).query("source == 'synthetic'")
            assert rows[["Smiling", "Hat"]].isna().all(axis=None)
            assert rows["Male"].notna().all()
            file = pd.read_csv(out / "synthetic" / name / "metadata.csv")
            assert file[["Smiling", "Hat"]].isna().all(axis=None)
