"""Noised classifiers against plain PyTorch, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adm_doubles import Adm, AdmClassifier, AdmUnet, randomised

from augment import Schedule
from augment.denoiser import ImageFormat
from augment.pretrained import CheckpointOptions, load_noised_classifier

ADM = Adm(widths=(32, 64), blocks=2, attention=(1,), order="legacy", out_channels=10)
ASKED = CheckpointOptions(attention_order="legacy", head_channels=16, schedule="linear")


def _saved(folder: Path, network: torch.nn.Module) -> Path:
    torch.save(network.state_dict(), folder / "classifier.pt")
    return folder / "classifier.pt"


@pytest.mark.parametrize(
    "adm",
    [
        ADM,
        replace(ADM, order="new", widths=(32, 32, 64), attention=(1, 2)),
        replace(ADM, heads=2),
        replace(ADM, in_channels=1, residual_steps=False),
    ],
)
def test_logits_and_input_gradients_are_the_originals(tmp_path: Path, adm: Adm) -> None:
    network = randomised(AdmClassifier(adm))
    heads = {"heads": adm.heads, "head_channels": None} if adm.heads else {}
    options = replace(ASKED, attention_order=adm.order, **heads)
    classifier = load_noised_classifier(_saved(tmp_path, network), options)
    assert (classifier.heads, classifier.image) == (
        {"class": 10},
        ImageFormat(channels=adm.in_channels, size=16),
    )
    np.testing.assert_array_equal(classifier.schedule.alpha_bar, Schedule.linear().alpha_bar)
    x = torch.randn(3, adm.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    t = torch.tensor([0, 321, 999])
    expected, found = network(x, t), classifier(x, t)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    (expected,), (found,) = (
        torch.autograd.grad(logits.log_softmax(1)[:, 3].sum(), x) for logits in (expected, found)
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_it_is_frozen_and_has_a_card(tmp_path: Path) -> None:
    classifier = load_noised_classifier(_saved(tmp_path, AdmClassifier(ADM)), ASKED)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())
    assert classifier.card["settings"]["image_size"] == 16
    assert len(classifier.card["sha256"]) == 64


def test_refusals(tmp_path: Path) -> None:
    path = _saved(tmp_path, AdmUnet(Adm()))
    with pytest.raises(ValueError, match="is a denoiser; allowed is a noised classifier"):
        load_noised_classifier(path, ASKED)
    path = _saved(tmp_path, AdmClassifier(ADM))
    with pytest.raises(ValueError, match=r"cannot tell attention_order .*, schedule "):
        load_noised_classifier(path, CheckpointOptions(head_channels=16))
    open_ = AdmClassifier(replace(ADM, widths=(32, 32), attention=()))
    path = _saved(tmp_path, open_)
    with pytest.raises(ValueError, match=r"is open: its tensors cannot tell image_size, which is"):
        load_noised_classifier(path, ASKED)
    found = load_noised_classifier(path, replace(ASKED, image_size=16))
    assert found.image.size == 16
    with pytest.raises(FileNotFoundError, match=r"gone\.pt is missing"):
        load_noised_classifier(tmp_path / "gone.pt")
