"""Encoders by name: the embedded labelers' networks among them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from labeling import load_labeler
from recipes.chain.encoders import load_encoder


def test_the_default_gives_the_labelers_last_layer_its_input() -> None:
    labeler = load_labeler("avatars")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=generator)
    encoder = load_encoder("avatars")
    features = encoder(images)
    assert features.shape == (3, 1024)
    head = labeler.network.get_submodule("fc")
    torch.testing.assert_close(head(features).sigmoid(), labeler(images))
    assert encoder.card.name == "avatars"


def test_the_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "avatars").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_encoder("avatars").card.name == "avatars"
    with pytest.raises(FileNotFoundError, match=r"card.json is missing; write a JSON object"):
        load_encoder("./avatars")


def test_another_source_is_augments_and_needless_weights_are_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"^encoder is 'nonesuch', no folder or file"):
        load_encoder("nonesuch")
    with pytest.raises(
        ValueError, match=r"^weights is w.pth with the encoder .*avatars, which has"
    ):
        load_encoder("avatars", weights=Path("w.pth"))
