"""Sets whose guidance needs a classifier of noised images: the run trains it, once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from augment_doubles import tiny_unet
from PIL import Image
from recipe_doubles import save_folder, tiny_flags

from augment import Denoiser, ImageFormat, Schedule, load_noised_classifier
from augment.pretrained import save_pipeline
from augment.train_classifier import noise_name
from recipes.celeba_augment import main
from recipes.chain.images.noised import minority_labels
from recipes.chain.settings.classifier_terms import (
    AttributeBitsConfig,
    LowDensityConfig,
    MinorityClassConfig,
)
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.targets import plan_bits

TRAINING = {"widths": [32], "training": {"steps": 3, "batch_size": 4}}
SETS: dict[str, Any] = {
    "um2024": {"minority_class": {"classes": 3, "score": {"samples": 1}, **TRAINING}},
    "stronger": {
        "minority_class": {"classes": 3, "score": {"samples": 1}, "scale": 9.0, **TRAINING}
    },
    "sehwag": {"low_density": {**TRAINING}},
    "adm_ml": {"attribute_bits": {"attributes": ["Smiling", "Male"], **TRAINING}},
}


def test_one_command_trains_each_classifier_once_and_makes_the_sets(tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data", splits=("train",) * 12 + ("val",) * 6 + ("test",) * 8)
    (tmp_path / "others").mkdir()
    for i in range(5):
        Image.new("RGB", (20, 20), (50 * i, 0, 0)).save(tmp_path / "others" / f"{i}.png")
    away = {"low_density": {"others": str(tmp_path / "others"), "samples": 4, **TRAINING}}
    file = tmp_path / "sets.yaml"
    file.write_text(json.dumps({"sets": {**SETS, "out_of_data": away}}))
    out = tmp_path / "out"
    arms = ["real", *SETS, "out_of_data"]
    words = [
        *tiny_flags(data, _generator(tmp_path / "generator"), out),
        *(f"--config={file}", f"--arms=[{','.join(arms)}]", "--allow_unlike=true"),
    ]
    main(words)
    folders = sorted(path.name.rpartition("-")[0] for path in (out / "noised").iterdir())
    # Two strengths share the classifier; the two discriminators learn other numbers of samples.
    assert folders == [
        *("attributes", "data_or_others", "minority", "real_or_made", "real_or_made"),
    ]
    records = {
        name: json.loads((out / "synthetic" / name / "settings.json").read_text())["guidance"]
        for name in arms[1:]
    }
    weights = _weights(out, "minority")
    assert records["um2024"]["terms"] == (
        f"ClassifierGuidance(classifier='{weights}', target=2, scale=3.5)"
    )
    assert records["stronger"]["terms"] == (
        f"ClassifierGuidance(classifier='{weights}', target=2, scale=9.0)"
    )
    assert re.match(
        r"HardnessAscent\(hardness=hardness\('\w{16}'\), scale=0\.3\) \+ PushOfClass\(class",
        records["sehwag"]["terms"],
    )
    assert "target=1, scale=0.3, away=True) + PushOfClass(" in records["out_of_data"]["terms"]
    table = pd.read_csv(out / "synthetic" / "adm_ml" / "metadata.csv")
    plan = plan_bits(["Smiling", "Male"])
    for seed, row in table.set_index("seed").iterrows():
        assert plan(int(seed)) == {n: row[f"target_{n}"] for n in ("Smiling", "Male")}
    before = {path: path.stat().st_mtime_ns for path in (out / "noised").rglob("*.safetensors")}
    main(words)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def _generator(folder: Path) -> Path:
    """As `recipe_doubles.save_generator`, of the thousand steps that noised classifiers know."""
    denoiser = Denoiser(
        tiny_unet(3, 6, sample_size=16),
        Schedule.cosine(),
        ImageFormat(channels=3, size=16),
        variance="learned_range",
    )
    save_pipeline(denoiser, folder, card={"data": "none, random weights"})
    return folder


def _weights(out: Path, kind: str) -> str:
    (folder,) = (out / "noised").glob(f"{kind}-*")
    classifier = load_noised_classifier(folder / "classifier")
    assert classifier.heads == {"minority_score": 3}
    assert len(pd.read_csv(folder / "scores.csv")) == 12
    return str(classifier.card["sha256"][:16])


def test_minority_classes_are_equal_in_size_and_within_the_images_own_class() -> None:
    scores = np.random.default_rng(0).permutation(12).astype(np.float32)
    (found,) = minority_labels(scores, 4).values()
    assert [found.count(name) for name in "0123"] == [3] * 4
    assert {found[i] for i in np.argsort(scores)[-3:]} == {"3"}
    # Within classes of which one is altogether more minor, each has its own highest.
    own = [0] * 6 + [1] * 6
    heads = minority_labels(np.arange(12, dtype=np.float32), 2, own)
    assert list(heads) == ["0", "1"]
    assert heads["0"] == ["0"] * 3 + ["1"] * 3 + [""] * 6
    assert heads["1"] == [""] * 6 + ["0"] * 3 + ["1"] * 3
    with pytest.raises(ValueError, match=r"^of 3 classes of minority scores, number 1 is empty,"):
        minority_labels(np.float32([1, 1, 1, 1, 1, 2]), 3)


def test_bits_follow_from_the_seed_and_each_value_is_asked_for_equally_often() -> None:
    names = ["Bald", "Eyeglasses", "Mustache", "Wearing_Hat"]
    plan = plan_bits(names)
    asked = pd.DataFrame([plan(seed) for seed in range(2000)])
    assert list(asked) == names
    assert plan(7) == plan_bits(names)(7)
    assert plan.identity != plan_bits(names[:2]).identity
    assert (abs(asked.mean() - 0.5) < 0.05).all()
    assert (abs(asked.value_counts(normalize=True) - 1 / 16) < 0.03).all()
    assert len(asked.drop_duplicates()) == 16


def test_a_schedule_is_known_by_its_noise() -> None:
    assert (noise_name(Schedule.cosine()), noise_name(Schedule.linear())) == ("cosine", "linear")
    with pytest.raises(ValueError, match=r"^the generator's schedule of 50 steps is neither"):
        noise_name(Schedule.cosine(50))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinorityClassConfig(classes=1), r"^minority_class.classes is 1; give at least 2$"),
        (lambda: MinorityClassConfig(scale=-1), r"^minority_class.scale is -1; give a number from"),
        (lambda: LowDensityConfig(alpha=float("nan")), r"^low_density.alpha is nan; give a number"),
        (lambda: LowDensityConfig(every=0), r"^low_density.every is 0; give 1 to guide"),
        (lambda: LowDensityConfig(samples=1), r"^low_density.samples is 1; give at least 2$"),
        (lambda: AttributeBitsConfig(attributes=[]), r"^attribute_bits.attributes is empty; name"),
        (
            lambda: SyntheticSet(folder=Path("x"), low_density=LowDensityConfig()),
            r"^folder x is given beside guidance",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
