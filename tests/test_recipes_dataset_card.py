"""The card of a synthetic set: what it says of its images, labels and terms, and whose it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import yaml

from augment import CADS, Boost, SamplerConfig, Selection, Temperature
from labeling import LabelerCard, LabelPolicy, Rule
from recipes.chain.results.dataset_card import (
    MARK,
    dataset_card,
    hub_licence,
    size_category,
    write_card,
)
from recipes.chain.settings.sets import GuidanceConfig, StartSettings, SteeringConfig, SyntheticSet
from recipes.chain.settings.untrained_terms import (
    JacobianSettings,
    ParticleSettings,
    UncertaintySettings,
)

GUIDANCE = GuidanceConfig()
LABELER = LabelerCard(
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
TABLE = pd.DataFrame(
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
"""Four images: two kept, of which one is Bald and one trains, a copy and a blank one."""


def _card(
    guidance: GuidanceConfig | None = GUIDANCE,
    *,
    policy: LabelPolicy | None = None,
    labeler: LabelerCard = LABELER,
    table: pd.DataFrame = TABLE,
    name: str = "faces",
    steers: bool = True,
    **settings: Any,
) -> str:
    inputs = SimpleNamespace(
        denoiser=SimpleNamespace(card={"name": name, "source": "drawn", "licence": "CC0-1.0"}),
        labeler=SimpleNamespace(card=labeler, sha256="abc", thresholds={"Bald": 0.3}),
        attributes=["Bald", "Smiling"],
        policy=policy or LabelPolicy(rules={"Bald": Rule(present=0.3, absent=0.3)}),
        labeler_steers=lambda settings: settings.steering is not None and steers,
    )
    made = SimpleNamespace(
        name="strange",
        settings=SyntheticSet(
            **{"sampler": SamplerConfig(steps=9), "guidance": guidance} | settings
        ),
        table=table,
        selection=Selection(table[:1], pd.DataFrame()),
        realism=SimpleNamespace(sentence=lambda: "like the real ones: 5% of them"),
    )
    config = SimpleNamespace(generator="runs/generator")
    return dataset_card(*cast(Any, (config, inputs, made)))


def test_it_counts_what_was_kept_and_says_why_the_rest_was_not() -> None:
    text = _card()
    assert "| kept | 2 |" in text
    assert "| copy of test | 1 | it is nearly the real test image in `copied` |" in text
    assert "| blank | 1 |" in text
    assert "off manifold" not in text
    assert "trained on 1 of them" in text
    assert "The kept images are like the real ones: 5% of them." in text
    assert "/somewhere/of/mine" not in text


def test_labels_stand_with_threshold_share_and_the_labelers_own_score() -> None:
    text = _card()
    assert "| Bald | 0.300 | 0.500 | 0.875 |" in text  # the kept alone
    assert "| Smiling |  |  |  |" in text
    assert "Labeler: resnet34. Source: photographs of mine. Licence: MIT. SHA-256: abc." in text


def test_a_policys_thresholds_stand_in_place_of_the_cards() -> None:
    rule = Rule(present=0.8, absent=0.45, n=90)
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
    assert "scale 0.4, every 5" in _card(GuidanceConfig(scale=0.4))
    assert "density: every 5, unit variance, budget 0.7," in _card(GuidanceConfig(budget=0.7))
    assert "Sampler: 9 steps, ancestral." in _card()
    of_class = SamplerConfig(steps=9, label=0, class_scale=2.0, cads=CADS(noise=0.05))
    told = "Sampler: 9 steps, ancestral, label 0, class_scale 2.0, cads {'noise': 0.05,"
    assert told in _card(sampler=of_class)
    assert "has had a part" in _card(GuidanceConfig(distance="features"))
    assert "Judging a labeler made of" in _card(GuidanceConfig(distance="activations"))
    assert "has had a part" not in _card(GuidanceConfig(distance="l2"))
    plain = _card(None)
    assert "Guidance: none" in plain
    assert "scale" not in plain
    assert "has had a part" not in plain
    assert yaml.safe_load(plain.split("---\n")[1])["pretty_name"] == "Ordinary samples of faces"


def test_it_says_which_images_a_set_starts_from() -> None:
    start = StartSettings(images=Path("/somewhere/of/mine/rare"), strength=0.4)
    text = _card(start=start)
    assert "Start: images of rare, made anew with strength 0.4" in text
    assert "/somewhere/of/mine" not in text
    assert "where the labeler agrees" not in text
    text = _card(start=StartSettings(rows="rare", strength=0.4))
    assert "Start: real train images that have a rare attribute, made anew with strength" in text
    assert "Labels are those of the real image that each was made from, where the labeler" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"jacobian": JacobianSettings()}, "of the Jacobian of the labeler (JEPA guidance): scale"),
        (
            {"jacobian": JacobianSettings(encoder="activations", rank=9)},
            "of the Jacobian of the generator's activations (JEPA guidance): scale 0.4, every 5.",
        ),
        ({"uncertainty": UncertaintySettings(scale=2.0)}, "labeler's prediction for the estimated"),
        ({"particles": ParticleSettings(group=8)}, "images of a group of 8 repel one another"),
    ],
)
def test_other_guidances_are_told(settings: dict[str, object], words: str) -> None:
    text = _card(None, **settings)
    assert words in text
    by_labeler = "the labeler" in words or "labeler's" in words
    assert ("Judging the labeler: the guidance went through it" in text) == by_labeler
    assert "ordinary samples" not in text
    assert yaml.safe_load(text.split("---\n")[1])["pretty_name"] == "Minority samples of faces"


def test_a_boost_and_a_temperature_are_told_of_ordinary_samples() -> None:
    warm = SamplerConfig(steps=9, temperature=Temperature(rescale=0.95))
    text = _card(None, start=StartSettings(boost=Boost()), sampler=warm)
    assert "Start: noise of 4.0 times the norm, at a signal level of 0.00035" in text
    assert "'rescale': 0.95" in text
    assert "Guidance: none" in text


def test_it_says_what_the_images_were_asked_for_and_how_often_it_is_found() -> None:
    table = TABLE.assign(target_Bald=[1.0, 1.0, np.nan, 0.0])
    text = _card(table=table, steering=SteeringConfig(scale=3.0, every=2))
    assert yaml.safe_load(text.split("---\n")[1])["pretty_name"] == "Targeted samples of faces"
    assert "Steering: towards the attributes asked for" in text
    assert "Judging the labeler: the guidance went through it" in text
    assert "scale 3.0, every 2" in text
    assert "| Bald | 0 | 1 | 0.000 |" in text
    assert "| Bald | 1 | 2 | 0.500 |" in text
    assert "| `target_<attribute>` |" in text
    assert not any(word in _card() for word in ("target_", "Steering", "asked for"))


def test_it_says_who_steered_and_what_part_the_labeler_had() -> None:
    table, steering = TABLE.assign(target_Bald=1.0), SteeringConfig()
    by_itself = _card(table=table, steering=steering)
    assert "asked for, by log-odds of the labeler at the" in by_itself
    assert "By the labeler that steered them, which is no independent judge." in by_itself
    by_head = _card(table=table, steering=steering, steers=False)
    assert "asked for, by log-odds of a head on the generator's activations at the" in by_head
    assert "By the labeler, which had no part in making them." in by_head
    assert "Judging the labeler: the guidance went" not in by_head
    unsure = {"steering": steering, "uncertainty": UncertaintySettings()}
    by_both = _card(table=table, steers=False, **unsure)
    assert "asked for, by log-odds of a head on" in by_both
    assert "By the labeler, which had a part in making them." in by_both
    assert "Judging the labeler: the guidance went through it" in by_both


def test_images_made_elsewhere_have_no_generator_and_no_known_terms() -> None:
    names = ["a/0.jpg", "a/1.png", "2.jpg", "3.png"]
    table = TABLE.drop(columns="seed").assign(file_name=names, sampler="elsewhere")
    text = _card(None, table=table, folder=Path("/somewhere/of/mine/others"))
    fields = yaml.safe_load(text.split("---\n")[1])
    assert fields["pretty_name"] == "Synthetic images of the folder others"
    assert fields["license"] == "unknown"
    assert fields["tags"] == ["synthetic", "pseudo-labels"]
    [data] = fields["configs"][0]["data_files"]
    assert data["path"] == ["**/*.jpg", "**/*.png", "*.jpg", "*.png", "metadata.csv"]
    assert "Images: taken from the folder others." in text
    assert "faces" not in text
    assert "Seeds" not in text
    assert "/somewhere/of/mine" not in text


def test_a_local_path_of_the_weights_does_not_travel_with_the_images(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    text = _card(labeler=replace(LABELER, source=str(weights)))
    assert "Source: weights." in text
    assert str(tmp_path) not in text
    assert "Source: photographs" in _card(labeler=replace(LABELER, source="photographs " * 99))


def test_names_from_elsewhere_are_no_markup() -> None:
    evil = "<script>a|b`[c](d)*e*_f_ 5_o_Clock"
    labeler = replace(LABELER, source=evil, licence=evil)
    text = _card(name=evil, labeler=labeler, folder=None)
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["pretty_name"] == f"Minority samples of {evil}"
    assert "<script>" not in body
    escaped = r"&lt;script&gt;a\|b\`\[c\](d)\*e\*\_f\_ 5_o_Clock"
    assert body.count(escaped) == 5  # heading, generator, and the labeler's source and licence
    assert escaped in _card(None, folder=Path(evil))


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
