"""Loss, schedule, preprocessing and the network."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
import torch
import torchvision
from torch.nn import functional as F

from classify import AttributeClassifier, FitConfig
from classify.loss import masked_bce
from classify.model import warmup_then_decay

SMALL = "shufflenet_v2_x0_5"


def test_an_empty_cell_changes_no_gradient_of_the_weights() -> None:
    """The gradient is that of the labelled cells alone, whatever the empty cells' images are."""
    network = torch.nn.Linear(4, 3)
    images, labels = torch.randn(6, 4), torch.randint(2, (6, 3)).float()
    labels[:, 2] = labels[4:] = torch.nan

    def gradients(images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        loss = masked_bce(network(images), labels)
        return list(torch.autograd.grad(loss, list(network.parameters())))

    alone = gradients(images[:4], labels[:4])
    for beside in (torch.randn(2, 4), torch.full((2, 4), 1e30)):
        images[4:] = beside
        torch.testing.assert_close(gradients(images, labels), alone)
    assert not alone[0][2].any()
    assert alone[0][:2].all()


def test_a_soft_labels_gradient_is_the_distance_to_it() -> None:
    logits = torch.randn(5, 2, requires_grad=True)
    labels = torch.rand(5, 2)
    (gradient,) = torch.autograd.grad(masked_bce(logits, labels), logits)
    torch.testing.assert_close(gradient, (logits.sigmoid() - labels) / labels.numel())


def test_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.01)
    for step in range(51):
        factor = warmup_then_decay(step, steps=50, warmup=0.0, final=0.01)
        assert factor == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_schedule_rises_linearly_then_falls_exponentially() -> None:
    factor = [
        warmup_then_decay(step, steps=100, warmup=0.1, final=0.01, decay="exponential")
        for step in range(101)
    ]
    assert factor[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factor[10] == 1
    assert factor[100] == pytest.approx(0.01)
    ratios = [after / before for before, after in pairwise(factor[10:])]
    assert ratios == pytest.approx([0.01 ** (1 / 90)] * 90)
    assert warmup_then_decay(0, steps=100, warmup=0.0, final=0.5) == 1


def test_default_network_is_torchvisions_resnet18() -> None:
    module = AttributeClassifier(["a", "b"])
    reference = torchvision.models.resnet18(num_classes=2)
    assert [(n, p.shape) for n, p in module.network.named_parameters()] == [
        (n, p.shape) for n, p in reference.named_parameters()
    ]


@torch.no_grad()
def test_preprocessing_is_what_the_card_says() -> None:
    module = AttributeClassifier(["a", "b"], FitConfig(architecture=SMALL)).eval()
    images = torch.randint(256, (3, 3, 48, 48), dtype=torch.uint8)
    x = F.interpolate(images / 255, size=(32, 32), mode="bicubic", antialias=True)
    x = torchvision.transforms.functional.normalize(
        x, module.mean.flatten().tolist(), module.std.flatten().tolist()
    )
    torch.testing.assert_close(module(images), module.network(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_grey_images_are_repeated_and_layout_changes_nothing() -> None:
    torch.manual_seed(0)
    last = AttributeClassifier(["a"], FitConfig(architecture=SMALL)).eval()
    torch.manual_seed(0)
    first = AttributeClassifier(["a"], FitConfig(architecture=SMALL, channels_last=False)).eval()
    grey = torch.randint(256, (3, 1, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(last(grey), last(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(last(grey), first(grey), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimiser_takes_the_settings(name: Literal["adamw", "sgd"], kind: type) -> None:
    config = FitConfig(architecture=SMALL, optimizer=name, lr=0.3, weight_decay=0.2)
    module = AttributeClassifier(["a"], config, steps=10)
    configured = module.configure_optimizers()
    assert isinstance(configured, dict)
    optimizer = configured["optimizer"]
    assert isinstance(optimizer, kind)
    assert optimizer.defaults["lr"] == 0.3
    assert optimizer.defaults["weight_decay"] == 0.2
