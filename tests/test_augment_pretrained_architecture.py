"""Architectures read off state dicts; the cards against networks of the released flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from adm_doubles import Adm, AdmClassifier, AdmUnet
from torch import Tensor

from augment.pretrained import KNOWN, KnownCheckpoint, known_checkpoints
from augment.pretrained.architecture import Architecture, tensor_names
from augment.pretrained.guided_diffusion import read_architecture

# The flags of the repositories' READMEs, and millions of parameters where they are known.
RELEASED = {
    "celeba-64": (Adm(widths=(192, 384, 576, 768), blocks=3, attention=(1, 2, 3)), 295.14),
    "imagenet-64": (
        Adm(widths=(192, 384, 576, 768), blocks=3, attention=(1, 2, 3), classes=1000),
        295.90,
    ),
    "lsun-bedroom-256": (
        Adm(widths=(256, 256, 512, 512, 1024, 1024), blocks=2, attention=(3, 4, 5)),
        552.81,
    ),
    "imagenet-64-to-256": (
        Adm(
            widths=(192, 192, 384, 384, 768, 768),
            blocks=2,
            attention=(3, 4, 5),
            in_channels=6,
            classes=1000,
            heads=4,
        ),
        None,
    ),
    "imagenet-64-classifier": (
        Adm(
            widths=(128, 256, 384, 512),
            blocks=4,
            attention=(1, 2, 3),
            out_channels=1000,
            size=64,
            head_channels=64,
        ),
        None,
    ),
    "imagenet-256-classifier": (
        Adm(
            widths=(128, 128, 256, 256, 512, 512),
            blocks=2,
            attention=(3, 4, 5),
            out_channels=1000,
            size=256,
            head_channels=64,
        ),
        None,
    ),
}


def _read(state: Mapping[str, Tensor], image_size: int | None = None) -> Architecture:
    return read_architecture(state, Path("model.pt"), image_size)


@pytest.mark.parametrize("known", KNOWN, ids=known_checkpoints())
def test_a_card_describes_the_network_of_the_released_flags(known: KnownCheckpoint) -> None:
    adm, millions = RELEASED[known.name]
    kind = AdmClassifier if known.name.endswith("classifier") else AdmUnet
    with torch.device("meta"):
        network = kind(adm)
    state = network.state_dict()
    assert _read(state) == known.architecture
    assert tensor_names(known.architecture).keys() == state.keys()
    if millions:
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(
            millions, abs=0.01
        )


def test_cards_are_told_apart_and_say_what_is_needed() -> None:
    assert len({known.architecture for known in KNOWN}) == len(KNOWN)
    for known in KNOWN:
        settings = known.settings
        assert (settings.heads is None) != (settings.head_channels is None)
        assert None not in (settings.attention_order, settings.schedule, settings.image_size)
        assert known.url.startswith("https://")
        assert known.licence


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("residual_steps", [True, False])
@pytest.mark.parametrize("widths", [(32,), (32, 32), (32, 32, 32), (32, 64, 64, 96)])
def test_levels_are_told_whatever_the_widths_and_the_steps(
    widths: tuple[int, ...], residual_steps: bool, blocks: int
) -> None:
    adm = Adm(widths=widths, blocks=blocks, attention=(), residual_steps=residual_steps)
    with torch.device("meta"):
        found = _read(AdmUnet(adm).state_dict())
    assert (found.widths, found.blocks, found.attention) == (widths, blocks, ())
    assert found.residual_steps == (residual_steps or len(widths) == 1)


def test_a_classifier_whose_levels_remain_open_asks_for_the_image_size() -> None:
    """Two levels of two blocks, or of 5 one: without attention and of one width, both fit."""
    adm = Adm(widths=(32, 32), blocks=2, attention=(), out_channels=10, size=16)
    with torch.device("meta"):
        state = AdmClassifier(adm).state_dict()
    with pytest.raises(ValueError, match="cannot tell image_size, which is 8 or 16 or 32; give"):
        _read(state)
    found = _read(state, 16)
    assert (found.widths, found.blocks, found.pool) == ((32, 32), 2, 8)
    with pytest.raises(ValueError, match="image_size, which is 8 or 16 or 32, not 64; give it as"):
        _read(state, 64)


def test_a_network_that_is_none_says_by_what_it_was_told() -> None:
    with pytest.raises(ValueError, match="do not divide into levels"):
        _read({})
    with torch.device("meta"):
        state = AdmUnet(Adm()).state_dict()
    del state["input_blocks.0.0.weight"]
    with pytest.raises(ValueError, match=r"\(input_blocks\.0\.0\.weight is missing\): .* nearest"):
        _read(state)
