"""The card of a synthetic set: what it says of its images, labels and terms, and whose it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from augment import Selection
from labeling import LabelerCard, LabelPolicy, Rule
from recipes._dataset_card import MARK, dataset_card, hub_licence, size_category, write_card
from recipes._fill import Filled
from recipes._settings import GuidanceConfig, RunConfig


def _card(arm: str = "minority", policy: LabelPolicy | None = None, **guidance: object) -> str:
    """Of four images: two kept, of which one is Bald and one trains, a copy and a blank one."""
    labeler_card = LabelerCard(
        architecture="resnet34",
        attributes=["Bald"],
        image_size=32,
        mean=[0.5] * 3,
        std=[0.5] * 3,
        thresholds={"Bald": 0.3},
        source="photographs\nof mine.",
        licence="MIT",
        command="",
        scores={"Bald": {"f1": 0.875, "precision": None}},
    )
    table = pd.DataFrame(
        {
            "file_name": [f"{seed}.png" for seed in range(4)],
            "split": "train",
            "source": "synthetic",
            "seed": range(4),
            "sampler": "self-guided",
            "path": "/somewhere/of/mine",
            "Bald": [1.0, 0.0, 1.0, 1.0],
            "Smiling": np.nan,
            "admission": ["kept", "kept", "copy of test", "blank"],
        }
    )
    chain = SimpleNamespace(
        config=RunConfig(guidance=GuidanceConfig(**guidance)),
        denoiser=SimpleNamespace(card={"name": "faces", "source": "drawn", "licence": "CC0-1.0"}),
        labeler=SimpleNamespace(card=labeler_card, thresholds={"Bald": 0.3}, sha256="abc"),
        attributes=["Bald", "Smiling"],
        policy=policy,
    )
    filled = Filled(
        table=table,
        selection=Selection(table[:1], pd.DataFrame()),
        rounds=pd.DataFrame(),
        stopped="limit",
    )
    return dataset_card(chain, arm, filled)


def test_it_counts_what_was_kept_and_says_why_the_rest_was_not() -> None:
    text = _card()
    assert "| kept | 2 |" in text
    assert "| copy of test | 1 | nearly the real test image in `copied` |" in text
    assert "| blank | 1 |" in text
    assert "off manifold" not in text
    assert "trained on 1 of them" in text
    assert "/somewhere/of/mine" not in text


def test_labels_stand_with_threshold_share_and_the_labelers_own_score() -> None:
    text = _card()
    assert "| Bald | 0.300 | 0.500 | 0.875 |" in text  # the kept alone
    assert "| Smiling |  |  |  |" in text
    assert "Labeler: resnet34. Source: photographs of mine. Licence: MIT. SHA-256: abc." in text


def test_a_policys_thresholds_stand_in_place_of_the_cards() -> None:
    rule = Rule(present=0.8, absent=0.45)
    text = _card(
        policy=LabelPolicy(rules={"Bald": rule, "Smiling": Rule(present=None, absent=0.2)})
    )
    assert "| Bald | 0.800, 0.450 |" in text
    assert "| Smiling | none, 0.200 |" in text
    assert "were fitted on real validation images" in text
    assert "were fitted on real validation images" not in _card()


def test_front_matter_has_the_terms_of_both_models() -> None:
    fields = yaml.safe_load(_card().split("---\n")[1])
    assert (fields["license"], fields["license_name"]) == ("other", "as-generator-and-labeler")
    assert fields["pretty_name"] == "Minority samples of faces"
    assert fields["size_categories"] == ["n<1K"]


def test_settings_are_those_that_were_used() -> None:
    assert "scale 0.4, every 5" in _card()
    assert "density: every 5, unit variance, budget 0.7," in _card(budget=0.7)
    assert "has had a part" in _card(distance="features")
    assert "has had a part" not in _card(distance="l2")
    plain = _card("plain")
    assert "Guidance: none" in plain
    assert "scale" not in plain
    assert "has had a part" not in plain


def test_a_card_of_ours_is_renewed_and_another_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    for text in (f"{MARK}old", f"{MARK}new"):
        write_card(tmp_path, text)
        assert path.read_text() == text
    for own in (b"---\npretty_name: mine\n---\n", b"\xff\xfe no text", b""):
        path.write_bytes(own)
        write_card(tmp_path, f"{MARK}new")
        assert path.read_bytes() == own
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("licences", "word"),
    [
        (("MIT", "MIT"), "mit"),
        (("MIT", "Apache-2.0"), "other"),
        (("as the data's", "as the data's"), "other"),
        (("MIT", None), "unknown"),
        (("", "MIT"), "unknown"),
    ],
)
def test_licence_is_the_one_they_share(licences: tuple[object, ...], word: str) -> None:
    assert hub_licence(*licences) == word


@pytest.mark.parametrize(
    ("count", "word"),
    [
        *((1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K")),
        *((10_000, "10K<n<100K"), (123_456, "100K<n<1M"), (5_000_000, "1M<n<10M")),
    ],
)
def test_size_is_the_hubs_word(count: int, word: str) -> None:
    assert size_category(count) == word
