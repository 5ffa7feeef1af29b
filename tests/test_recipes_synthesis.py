"""Rounds go on until the quota is met or the limit reached, and keep what earlier ones made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from augment_doubles import tiny_unet
from recipe_doubles import digests

from augment import (
    Denoiser,
    ImageFormat,
    Quota,
    SamplerConfig,
    Schedule,
    Selection,
    generate,
    select,
)
from labeling import LabelPolicy, Rule
from recipes.chain.command.files import link
from recipes.chain.images import synthesis
from recipes.chain.images.synthesis import Synthesised, fill
from recipes.chain.labels.labelers import unmet
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.study import RunConfig

POLICY = LabelPolicy(
    rules={"Bald": Rule(present=0.8, absent=0.8), "Male": Rule(present=None, absent=0.5)}
)


def _made(seeds: Sequence[int]) -> pd.DataFrame:
    """Every fifth image is bald, every second male, every third blank."""
    return pd.DataFrame(
        {
            "file_name": [f"{seed}.png" for seed in seeds],
            "seed": list(seeds),
            "Bald": [(seed % 5 == 0) * 1.0 for seed in seeds],
            "p_Bald": [0.9 if seed % 5 == 0 else 0.1 for seed in seeds],
            "Male": [(seed % 2 == 0) * 1.0 for seed in seeds],
            "p_Male": [0.5] * len(seeds),
            "admission": ["blank" if seed % 3 == 0 else "kept" for seed in seeds],
        }
    )


def _fill(quota: Quota, *, limit: int = 40) -> tuple[pd.DataFrame, Selection]:
    return fill(_made, quota, n_real=20, limit=limit, size=8)


def test_it_stops_with_the_round_that_meets_the_wishes() -> None:
    table, selection = _fill(Quota(wanted={"Bald=1": 3, "Male=1": 2}))
    # Bald and kept: 5, 10, 20, 25, ...; the third is in the third round of 8.
    assert table["seed"].tolist() == list(range(24))
    assert selection.table["seed"].tolist() == [5, 10, 20]


def test_what_the_limit_leaves_open_is_said() -> None:
    table, selection = _fill(Quota(wanted={"Bald=1": 30}), limit=20)
    assert table["seed"].tolist() == list(range(20))
    assert selection.report.iloc[0].tolist() == ["Bald=1", 30, 2, 2]
    assert unmet(selection, table, POLICY) == [
        "Bald=1, 2 of 30 (4 of 20 labelled Bald=1, abstained 0; it takes p from 0.80 up, highest "
        "0.90)"
    ]
    for quota in (Quota(wanted={"Bald=1": 3, "Male=1": 2}), Quota(ratio=5)):  # at most so many
        table, selection = _fill(quota)
        assert unmet(selection, table, POLICY) == []


def test_a_wish_that_the_policy_gives_no_label_for_says_so() -> None:
    table = _made(range(10)).assign(Male=[0.0] * 4 + [float("nan")] * 6)
    selection = select(table, Quota(wanted={"Bald=0,Male=1": 2}), n_real=20)
    assert unmet(selection, table, POLICY) == [
        "Bald=0,Male=1, 0 of 2 (8 of 10 labelled Bald=0, abstained 0; it takes p below 0.80, "
        "lowest 0.10; none of 10 labelled Male=1, abstained 6; the policy never gives it, highest "
        "0.50)"
    ]


@pytest.mark.parametrize(
    ("quota", "generated", "taken"),
    [
        (Quota(), 40, 26),
        (Quota(cap=10), 16, 10),
        (Quota(ratio=0.25), 8, 5),
        (Quota(ratio=5), 40, 26),
    ],
)
def test_quotas_without_wishes(quota: Quota, generated: int, taken: int) -> None:
    table, selection = _fill(quota)
    assert (len(table), len(selection.table)) == (generated, taken)


def test_rounds_of_generate_share_a_folder_resume_and_grow(tmp_path: Path) -> None:
    denoiser = Denoiser(
        tiny_unet(1, 1, sample_size=8),
        Schedule.cosine(10),
        ImageFormat(channels=1, size=8),
        variance="fixed_small",
    )

    def make(seeds: Sequence[int]) -> pd.DataFrame:
        made = generate(denoiser, seeds, tmp_path, sampler=SamplerConfig(steps=2, batch_size=2))
        return made.assign(admission="kept")

    first, _ = fill(make, Quota(), n_real=1, limit=6, size=4)
    before = digests(tmp_path, "*.png")
    (tmp_path / "2.png").unlink()  # as a stopped run leaves it
    grown, _ = fill(make, Quota(), n_real=1, limit=10, size=4)
    after = digests(tmp_path, "*.png")
    assert len(before) == 6
    assert len(after) == 10
    assert {name: after[name] for name in before} == before
    pd.testing.assert_frame_equal(grown[:6], first)
    written = pd.read_csv(tmp_path / "metadata.csv")
    assert written["seed"].tolist() == list(range(10))


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "file_name,split\na.png,tra"])
def test_a_damaged_table_of_a_set_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metadata.csv").write_text(content)
    with pytest.raises(ValueError, match=r"metadata\.csv (is|has) .*; repair it, or delete it"):
        synthesis._add_columns(tmp_path / "metadata.csv", pd.DataFrame({"file_name": ["a.png"]}))


def test_an_image_that_is_a_link_is_taken_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "b.png").symlink_to("a.png")
    link(tmp_path / "b.png", tmp_path / "set" / "b.png")
    assert not (tmp_path / "set" / "b.png").is_symlink()
    assert (tmp_path / "set" / "b.png").read_bytes() == b"image"


def _synthesised(
    monkeypatch: pytest.MonkeyPatch, empty: set[str]
) -> tuple[dict[str, Synthesised], list[str]]:
    """The sets of a run whose images serve its quota, but for some sets' images, and cautions."""

    def make(_inputs: Any, _judge: Any, name: str, settings: SyntheticSet) -> Any:
        table = _made(range(1, 9)).assign(Bald=0.0 if name in empty else 1.0)
        chosen = select(table, Quota(wanted={"Bald=1": 2}), n_real=20)
        return Synthesised(name=name, settings=settings, table=table, selection=chosen)

    monkeypatch.setattr(synthesis, "_synthesise", make)
    cautions: list[str] = []
    run: Any = SimpleNamespace(
        config=RunConfig(), doing=lambda _: nullcontext(), caution=cautions.append
    )
    monkeypatch.setattr(synthesis, "impossible", lambda *_: {})
    monkeypatch.setattr(synthesis, "reserved", lambda *_: None)
    monkeypatch.setattr(synthesis, "RealismCheck", SimpleNamespace(of=lambda *_: None))
    monkeypatch.setattr(synthesis, "_compared", lambda _run, _check, made: made)
    inputs: Any = SimpleNamespace(
        run=run,
        table=_made(range(4)).assign(split="train"),
        attributes=["Bald", "Male"],
        labeler=None,
        policy=POLICY,
    )
    return synthesis.synthesise(inputs, None), cautions  # type: ignore[arg-type]


def test_a_set_of_which_nothing_is_taken_is_left_out_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sets, cautions = _synthesised(monkeypatch, {"plain"})
    assert list(sets) == ["minority", "targeted"]
    assert len(cautions) == 1
    assert "none of the 8 plain images was taken (6 kept, 2 blank); Bald=1, 0 of 2" in cautions[0]
    assert "none of 8 labelled Bald=1, abstained 0" in cautions[0]


def test_it_stops_where_nothing_is_taken_of_any_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"of the 8 plain .*of the 8 targeted images was taken"):
        _synthesised(monkeypatch, {"plain", "minority", "targeted"})
