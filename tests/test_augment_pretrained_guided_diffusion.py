"""Converted checkpoints against plain PyTorch, what is asked for, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adm_doubles import Adm, AdmClassifier, AdmUnet, Encoder, randomised
from torch import Tensor

from augment import Schedule, load_denoiser
from augment.denoiser import ImageFormat
from augment.pretrained import (
    CheckpointOptions,
    checkpoints,
    load_noised_classifier,
    load_upsampler,
)
from augment.pretrained.checkpoints import KNOWN, KnownCheckpoint
from augment.pretrained.files import sha256_of
from augment.pretrained.guided_diffusion import read_architecture
from augment.pretrained.load import load_any

ASKED = CheckpointOptions(
    attention_order="new",
    head_channels=16,
    schedule="cosine",
    image_size=16,
    variance="fixed_small",
)

VARIANTS = {
    "new": Adm(),
    "legacy": Adm(order="legacy"),
    "conditional": Adm(classes=7),
    "legacy conditional": Adm(order="legacy", classes=7, widths=(32, 32, 64), attention=(1, 2)),
    "upsampler": Adm(
        order="legacy", heads=4, in_channels=6, classes=7, widths=(32, 64, 96), attention=(1, 2)
    ),
    "without learned variance": Adm(out_channels=3),
    "grey": Adm(in_channels=1, out_channels=2),
    "grey upsampler": Adm(in_channels=2, out_channels=2),
    "plain steps": Adm(residual_steps=False, blocks=2),
    "added time": Adm(scale_shift=False),
    "equal widths": Adm(widths=(32, 32, 32, 32), attention=(), blocks=2),
    "one level": Adm(widths=(32,), attention=(0,)),
}


def _options(adm: Adm) -> CheckpointOptions:
    heads = {"heads": adm.heads} if adm.heads else {"head_channels": adm.head_channels}
    return replace(ASKED, **{"head_channels": None, "attention_order": adm.order, **heads})


def _saved(folder: Path, state: dict[str, Tensor], name: str = "model.pt") -> Path:
    torch.save(state, folder / name)
    return folder / name


def _checkpoint(folder: Path, adm: Adm) -> tuple[AdmUnet, Path]:
    network = randomised(AdmUnet(adm))
    return network, _saved(folder, network.state_dict())


def _inputs(adm: Adm) -> tuple[Tensor, ...]:
    x = torch.randn(3, adm.in_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    inputs = (x, torch.tensor([0, 321, 999]))
    return inputs if adm.classes is None else (*inputs, torch.tensor([0, 3, 6]))


def _gradient(output: Tensor, x: Tensor) -> Tensor:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad((output * weights).sum(), x)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_input_gradients_are_the_originals(tmp_path: Path, variant: str) -> None:
    adm = VARIANTS[variant]
    network, path = _checkpoint(tmp_path, adm)
    converted = load_any(path, _options(adm)).network
    x, *rest = _inputs(adm)
    x.requires_grad_()
    expected, found = network(x, *rest), converted(x, *rest).sample
    assert expected.std() > 0.1  # So that the tolerance means something.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(_gradient(found, x), _gradient(expected, x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"attention_order": "legacy"}, {"head_channels": 32}, {"head_channels": 8}]
)
def test_what_the_tensors_cannot_tell_does_matter(tmp_path: Path, wrong: dict[str, object]) -> None:
    network, path = _checkpoint(tmp_path, Adm())
    x, t = _inputs(Adm())
    found = load_denoiser(path, options=replace(ASKED, **wrong)).network(x, t).sample
    assert (found - network(x, t)).abs().max() > 1e-2


def test_a_denoiser_of_it_predicts_both_halves_under_the_labels(tmp_path: Path) -> None:
    adm = VARIANTS["conditional"]
    network, path = _checkpoint(tmp_path, adm)
    denoiser = load_denoiser(path, options=_options(adm))
    assert (denoiser.classes, denoiser.variance) == (7, "learned_range")
    assert (denoiser.prediction, denoiser.image) == ("epsilon", ImageFormat(channels=3, size=16))
    assert not any(p.requires_grad for p in denoiser.parameters())
    x, _, labels = _inputs(adm)
    schedule = denoiser.schedule.respaced(250)
    prediction = denoiser(x, 200, schedule, labels)
    expected = network(x, torch.full((3,), 802), labels)
    torch.testing.assert_close(prediction.eps, expected[:, :3], atol=1e-4, rtol=0)
    torch.testing.assert_close(prediction.v, expected[:, 3:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_options_settle_schedule_and_variance(tmp_path: Path, schedule: str, variance: str) -> None:
    _, path = _checkpoint(tmp_path, Adm(out_channels=3))
    options = replace(ASKED, schedule=schedule, variance=variance)
    denoiser = load_denoiser(path, options=options)
    expected = {"cosine": Schedule.cosine(), "linear": Schedule.linear()}[schedule]
    np.testing.assert_array_equal(denoiser.schedule.alpha_bar, expected.alpha_bar)
    assert denoiser.variance == variance


def test_one_file_read_in_two_ways_gives_two_records(tmp_path: Path) -> None:
    """They make different images, which must not be taken for one run."""
    _, path = _checkpoint(tmp_path, Adm())
    record = load_denoiser(path, options=ASKED).record()
    assert load_denoiser(path, options=ASKED).record() == record
    for changes in ({"attention_order": "legacy"}, {"head_channels": 32}):
        assert load_denoiser(path, options=replace(ASKED, **changes)).record() != record
    half = load_denoiser(path, options=ASKED, dtype=torch.bfloat16).record()
    assert half == record | {"dtype": "torch.bfloat16"}


def test_half_precision_checkpoints_are_loaded_in_single(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in AdmUnet(Adm()).state_dict().items()}
    denoiser = load_denoiser(_saved(tmp_path, state), options=ASKED)
    assert {p.dtype for p in denoiser.parameters()} == {torch.float32}


def test_an_upsampler_sees_the_small_image_enlarged(tmp_path: Path) -> None:
    adm = VARIANTS["upsampler"]
    network, path = _checkpoint(tmp_path, adm)
    upsampler = load_upsampler(path, options=_options(adm))
    assert upsampler.denoiser.image.shape == (3, 16, 16)
    small = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([1, 2])
    denoiser = upsampler.beside(small)
    enlarged = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")
    expected = network(torch.cat([x, enlarged], dim=1), torch.tensor([500, 500]), labels)
    found = denoiser(x, 500, denoiser.schedule, labels)
    torch.testing.assert_close(found.eps, expected[:, :3], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="batch has 1 images beside 2 small ones; give as many"):
        denoiser(x[:1], 500, denoiser.schedule, labels[:1])
    with pytest.raises(ValueError, match=r"shape \(2, 1, 4, 4\); allowed is \(B, 3, h, w\)"):
        upsampler.beside(small[:, :1])


def _refusal(
    path: Path, options: CheckpointOptions | None = ASKED, load: Callable = load_any
) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        load(path, options)
    message = str(refusal.value)
    assert "\n" not in message
    assert not path.with_name(f"{path.name}.sha256").exists()
    return message


def test_what_cannot_be_told_is_asked_for_all_at_once(tmp_path: Path) -> None:
    _, path = _checkpoint(tmp_path, Adm(out_channels=3))
    message = _refusal(path, None)
    assert (
        "built like no known checkpoint and its tensors cannot tell attention_order (new or "
        "legacy), head_channels or heads, schedule (linear or cosine), image_size (pixels), "
        "variance (fixed_small or fixed_large); give them as CheckpointOptions(attention_order=...)"
    ) in message
    assert "cannot tell schedule (linear or cosine); give" in _refusal(
        path, replace(ASKED, schedule=None)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"head_channels": 24}, "head_channels is 24, which does not divide the 64 channels"),
        ({"head_channels": None, "heads": 5}, "heads is 5, which does not divide the 64 channels"),
        ({"image_size": 17}, "image_size is 17; 2 levels halve it to a fraction; give a multiple"),
        ({"known": "celeba"}, "options.known is 'celeba'; allowed are celeba-64, imagenet-64,"),
        ({"known": "celeba-64"}, "not built like celeba-64: its widths is (32, 64), not (192,"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, given: dict[str, object], message: str
) -> None:
    assert message in _refusal(_checkpoint(tmp_path, Adm())[1], replace(ASKED, **given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": 0}, "options.heads is 0; allowed are numbers from 1 up"),
        ({"head_channels": 64, "heads": 4}, "head_channels is 64 and options.heads 4; one follows"),
    ],
)
def test_options_that_contradict_themselves_are_refused(
    given: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CheckpointOptions(**given)


def test_each_kind_of_network_names_the_loader_it_belongs_to(tmp_path: Path) -> None:
    classifier = _saved(tmp_path, AdmClassifier(Adm(out_channels=10)).state_dict(), "c.pt")
    assert "noised classifier; allowed is a denoiser; give it to load_noised_classifier" in (
        _refusal(classifier)
    )
    adm = VARIANTS["upsampler"]
    upsampler, generator = _checkpoint(tmp_path, adm)[1], tmp_path / "g.pt"
    torch.save(AdmUnet(Adm()).state_dict(), generator)
    with pytest.raises(ValueError, match=r"is an upsampler, .* give it to load_upsampler"):
        load_denoiser(upsampler, options=_options(adm))
    with pytest.raises(ValueError, match=r"is a generator, .* give it to load_denoiser"):
        load_upsampler(generator, options=ASKED)


def test_missing_tensors_are_counted_named_and_compared_with_the_nearest_known(
    tmp_path: Path,
) -> None:
    adm = Adm(widths=(32, 64, 96, 128), blocks=3, attention=(1, 2, 3))  # CelebA's, but thinner.
    state = AdmUnet(adm).state_dict()
    total = len(state)
    for name in ("input_blocks.6.1.norm.bias", "middle_block.1.qkv.weight"):
        del state[name]
    message = _refusal(_saved(tmp_path, state))
    assert (
        f"is not complete: 2 missing (input_blocks.6.1.norm.bias, middle_block.1.qkv.weight), of "
        f"{total} tensors; the nearest known checkpoint is celeba-64; give the whole file"
    ) in message
    state = AdmUnet(adm).state_dict()
    for name in list(state):
        if not name.startswith("output_blocks"):
            del state[name]
    message = _refusal(_saved(tmp_path, state))
    assert "holds no whole network of guided-diffusion" in message
    assert f"of the {total} tensors of the nearest known one, celeba-64;" in message


def test_no_tensor_is_missing_unnoticed(tmp_path: Path) -> None:
    with torch.device("meta"):
        state = AdmUnet(Adm()).state_dict()
    for name in state:
        rest = {key: tensor for key, tensor in state.items() if key != name}
        with pytest.raises(ValueError, match=r"is not complete|no whole network") as refusal:
            read_architecture(rest, tmp_path / "model.pt")
        assert name in str(refusal.value)


def test_another_family_is_refused_with_how_far_it_is_from_the_nearest(tmp_path: Path) -> None:
    state = {f"model.diffusion_model.{k}": v for k, v in AdmUnet(Adm()).state_dict().items()}
    message = _refusal(_saved(tmp_path, state))
    assert "holds no whole network of guided-diffusion" in message
    assert ", ...) of the " in message
    assert "tensors of the nearest known one" in message


def test_unknown_tensors_and_other_shapes_are_refused(tmp_path: Path) -> None:
    state = AdmUnet(Adm()).state_dict()
    message = _refusal(_saved(tmp_path, state | {"logit_scale": torch.zeros(1)}))
    assert "do not: 1 unknown (logit_scale); the nearest known checkpoint is" in message
    name = "input_blocks.1.0.in_layers.2.weight"
    message = _refusal(_saved(tmp_path, state | {name: torch.zeros(32, 32, 5, 5)}))
    assert "tensors of other shapes than its network" in message
    for name, shape in {
        "middle_block.1.qkv.weight": (96, 64, 1),
        "input_blocks.3.1.qkv.bias": (191,),
        "output_blocks.0.1.proj_out.weight": (64, 64, 1, 1),
    }.items():
        message = _refusal(_saved(tmp_path, state | {name: torch.zeros(shape)}))
        assert "tensors of other shapes than its network" in message
    state["time_embed.0.weight"] = torch.zeros(128, 64)
    message = _refusal(_saved(tmp_path, state))
    assert "tensors of other shapes than its network" in message


@pytest.mark.parametrize("shape", [(), (0,)])
@pytest.mark.parametrize(
    ("kind", "adm", "load"),
    [
        (AdmUnet, Adm(classes=3), load_any),
        (AdmClassifier, Adm(out_channels=5), load_noised_classifier),
    ],
)
def test_a_tensor_of_any_shape_but_its_own_is_an_error_in_one_line(
    tmp_path: Path, kind: type[Encoder], adm: Adm, load: Callable, shape: tuple[int, ...]
) -> None:
    state = kind(adm).state_dict()
    read = r"label_emb|input_blocks\.[01]\.0\..*weight|1\.qkv|out\.2"
    for name in [name for name in state if re.search(read, name)]:
        _refusal(_saved(tmp_path, state | {name: torch.zeros(shape)}), ASKED, load)


def test_channels_that_are_no_image_are_refused(tmp_path: Path) -> None:
    latent = _checkpoint(tmp_path, Adm(in_channels=4, out_channels=8))[1]
    assert "takes 4 channels; allowed are 1 (grey) and 3 (RGB)" in _refusal(latent)
    odd = _checkpoint(tmp_path, Adm(out_channels=4))[1]
    assert "makes 4 channels of 3; allowed are 3, or 6" in _refusal(odd)


def _known(adm: Adm, monkeypatch: pytest.MonkeyPatch) -> KnownCheckpoint:
    """A card of a tiny checkpoint, in the place of the public ones."""
    state = AdmUnet(adm).state_dict()
    known = replace(
        KNOWN[0],
        name="tiny",
        architecture=read_architecture(state, Path("tiny.pt")),
        settings=replace(_options(adm), variance=None),
    )
    monkeypatch.setattr(checkpoints, "KNOWN", (known,))
    return known


@pytest.mark.parametrize("by", ["architecture", "name"])
def test_a_known_checkpoint_needs_no_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    network, path = _checkpoint(tmp_path, Adm(order="legacy"))
    known = _known(Adm(order="legacy"), monkeypatch)
    options = CheckpointOptions(known="tiny") if by == "name" else None
    denoiser = load_denoiser(path, options=options)
    x, t = _inputs(Adm())
    torch.testing.assert_close(denoiser.network(x, t).sample, network(x, t), atol=1e-4, rtol=0)
    assert denoiser.card["known"] == "tiny"
    assert denoiser.card["recognised_by"] == by
    assert denoiser.card["sha256"] == sha256_of(path)
    assert denoiser.card["guidance"] == {"scale": 0.4, "every": 5, "perturb": 0.8}
    # Weights that are only built alike may be anyone's.
    assert denoiser.card.get("licence") == (None if by == "architecture" else known.licence)


def test_an_option_goes_before_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = _checkpoint(tmp_path, Adm())
    _known(Adm(), monkeypatch)
    denoiser = load_denoiser(path, options=CheckpointOptions(schedule="linear", heads=2))
    np.testing.assert_array_equal(denoiser.schedule.alpha_bar, Schedule.linear().alpha_bar)
    assert denoiser.card["settings"] == {
        "attention_order": "new",
        "heads": 2,
        "schedule": "linear",
        "image_size": 16,
        "variance": "learned_range",
    }


def test_options_are_for_checkpoint_files_and_a_missing_file_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="avatars-32 is no checkpoint file; options are allowed"):
        load_denoiser("avatars-32", options=ASKED)
    with pytest.raises(FileNotFoundError, match=r"models/gone\.pt is missing; give the \.pt file"):
        load_denoiser("models/gone.pt")
