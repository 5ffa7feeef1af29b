"""Training a noised classifier: it learns, loads again, guides, resumes, and says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from augment_doubles import tiny_denoiser
from safetensors.torch import load_file, save_file

from augment import CheckpointOptions, ClassifierGuidance, load_noised_classifier, sample
from augment.train_classifier import (
    ClassifierNetworkConfig,
    ClassifierTrainConfig,
    ClassifierTraining,
    train_classifier,
)

NETWORK = ClassifierNetworkConfig(size=8, widths=(32, 32), attention_levels=())
TRAINING = ClassifierTrainConfig(steps=40, batch_size=16, lr=2e-3, checkpoint_every=20)


def _images(labels: Sequence[str]) -> torch.Tensor:
    """Dark images, and bright ones for the class 1."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 40, (len(labels), 3, 8, 8), generator=generator)
    level = torch.tensor([200 if label == "1" else 20 for label in labels])
    return (noise + level.reshape(-1, 1, 1, 1)).to(torch.uint8)


def _train(labels: Sequence[str], out: Path, **changes: object) -> Path:
    options: dict[str, object] = {"network": NETWORK, "training": TRAINING}
    return train_classifier(
        _images(labels), {"Bright": labels}, out, accelerator="cpu", devices=1, **options | changes
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(["1", "0"] * 16, tmp_path_factory.mktemp("classifier") / "out")


def test_it_learns_what_can_be_told_and_no_more_and_its_gradient_points_there(
    trained: Path,
) -> None:
    classifier = load_noised_classifier(trained)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())
    x0 = torch.tensor([0.75, -0.75]).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand_as(x0)

    def certainty(t: int) -> torch.Tensor:
        """Of the right classes, 1 and 0."""
        at = torch.full((2,), t)
        p = classifier(classifier.schedule.q_sample(x0, at, noise), at).softmax(dim=1)
        return torch.stack([p[0, 1], p[1, 0]])

    assert certainty(100).min() > 0.95
    assert abs(certainty(999).mean() - 0.5) < 0.05  # the same noise, so whatever it says of it
    # A generator is steered by it: brighter towards class 1 than towards 0.
    bright, dark = (
        sample(
            tiny_denoiser(),
            range(4),
            steps=10,
            guidance=ClassifierGuidance(classifier=classifier, target=target, scale=30.0),
        )
        for target in (1, 0)
    )
    assert (bright.float().mean(dim=(1, 2, 3)) > dark.float().mean(dim=(1, 2, 3)) + 5).all()


def test_the_folder_has_safetensors_and_a_card_and_is_checked(
    trained: Path, tmp_path: Path
) -> None:
    assert {path.name for path in trained.iterdir()} == {"card.json", "model.safetensors"}
    card = load_noised_classifier(trained).card
    assert (card["heads"], card["images"]) == ({"Bright": ["0", "1"]}, 32)
    assert len(card["sha256"]) == 64
    assert card["training"]["steps"] == 40
    with pytest.raises(ValueError, match=r"is a folder, whose card says everything; .* leave them"):
        load_noised_classifier(trained, CheckpointOptions(schedule="linear"))
    (tmp_path / "card.json").write_text((trained / "card.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing; give a folder of"):
        load_noised_classifier(tmp_path)
    tensors = load_file(trained / "model.safetensors")
    for broken in ({k: v for k, v in tensors.items() if k != "norm.bias"}, None):
        (tmp_path / "model.safetensors").write_bytes(b"no tensors")
        if broken is not None:
            save_file(broken, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=r"make no classifier .*; give the folder as it was"):
            load_noised_classifier(tmp_path)


def test_a_stopped_run_goes_on_and_other_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["1", "0"] * 4
    taken: list[int] = []
    step = ClassifierTraining.training_step

    def counted(self: ClassifierTraining, *arguments: object) -> torch.Tensor:
        taken.append(self.trainer.global_step)
        if taken == [0, 1, 2]:
            raise KeyError("power cut")
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ClassifierTraining, "training_step", counted)
    training = ClassifierTrainConfig(steps=3, batch_size=4, checkpoint_every=2)
    with pytest.raises(KeyError, match="power cut"):
        _train(labels, tmp_path / "out", training=training)
    _train(labels, tmp_path / "out", training=training)
    assert taken == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="settings, or another --out"):
        _train(labels, tmp_path / "out")
    with pytest.raises(ValueError, match="belongs to a run with other labels"):
        _train(labels[::-1], tmp_path / "out", training=training)


def test_classes_are_ordered_by_value_and_then_by_name(tmp_path: Path) -> None:
    training = ClassifierTrainConfig(steps=1, batch_size=4)
    names = ["10", "night", "2", "-1", "day", "2"]
    folder = _train(names, tmp_path / "out", training=training)
    card = json.loads((folder / "card.json").read_text())
    assert card["heads"] == {"Bright": ["-1", "2", "10", "day", "night"]}


def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Bright has 1 classes in the training images; .* label"):
        _train(["1", "1"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"^there are 3 labels of 2 images; give one per image$"):
        train_classifier(_images(["0", "1"]), {"A": ["0", "1", "1"]}, tmp_path, NETWORK, TRAINING)
    with pytest.raises(ValueError, match=r"^the images are torch.uint8 of shape \(3, 8, 8\); give"):
        _train(["0", "1"], tmp_path / "out", network=ClassifierNetworkConfig(size=16))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 10, "widths": (32, 32, 32)}, r"size is 10; 3 widths .*; give a multiple of 4$"),
        ({"channels": 2}, r"channels is 2; give 1 .grey. or 3"),
        ({"attention_levels": (3,)}, "attention_levels has 3; give some of 0 to 2,"),
        ({"blocks": 0}, "blocks is 0; give at least 1$"),
        ({"widths": (32, 48)}, r"widths are \(32, 48\); .* multiples of 32$"),
        ({"schedule": "sigmoid"}, r"schedule is 'sigmoid'; give the generator's, cosine or"),
    ],
)
def test_a_network_that_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^network\.{message}"):
        ClassifierNetworkConfig(**settings)  # type: ignore[arg-type]


def test_the_card_is_json_that_names_its_network(trained: Path) -> None:
    card = json.loads((trained / "card.json").read_text())
    assert card["architecture"]["widths"] == [32, 32]
    assert (card["architecture"]["pool"], card["architecture"]["out_channels"]) == (4, 2)
    assert card["settings"]["schedule"] == "cosine"
