"""A labeler as an ONNX file gives what it gave."""

from pathlib import Path

import pytest
import torch
from torch import nn

from labeling import Labeler, LabelerCard, export_onnx, load_labeler

for _needed in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(_needed)


def _labeler() -> Labeler:
    card = LabelerCard(
        architecture="small",
        attributes=["a", "b"],
        image_size=12,
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.25, 0.3],
        thresholds={"a": 0.3},
        source="test",
        licence="MIT",
        command="",
        interpolation="bilinear",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
        return Labeler(card, nn.Sequential(*layers, nn.Linear(400, 2)))


def test_exported_gives_the_same_probabilities(tmp_path: Path) -> None:
    labeler = _labeler()
    exported = load_labeler(export_onnx(labeler, tmp_path / "new" / "a.onnx"))
    for count, channels, size in ((1, 3, 12), (5, 3, 30), (2, 1, 9)):
        images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8)
        torch.testing.assert_close(exported(images), labeler(images), rtol=0, atol=1e-5)
    assert exported.thresholds == labeler.thresholds
    assert exported.card.source == "test"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.json", "a.onnx"]
    with pytest.raises(ValueError, match="has no torch network"):
        export_onnx(exported, tmp_path / "b.onnx")
    with pytest.raises(ValueError, match="exists and is not overwritten"):
        export_onnx(labeler, tmp_path / "new" / "a.onnx")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not end in \.onnx"):
        export_onnx(_labeler(), tmp_path / "a.pt")
