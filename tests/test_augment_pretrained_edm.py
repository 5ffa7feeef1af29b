"""EDM's networks: converted without executing them, and sampled as EDM samples them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler
from edm_doubles import EDMPrecond, network, save_pickle
from torch import Tensor, nn

from augment import (
    DDIM,
    Boost,
    Denoiser,
    DenoiserFeatures,
    SelfGuidance,
    Temperature,
    load_denoiser,
    reverse_process,
)
from augment.classifier_free import towards_class
from augment.noise import REVERSE, NoiseStream
from augment.schedule import Schedule
from recipes.convert_edm import main

SHAPE = (3, 8, 8)


def _noise(count: int = 2) -> Tensor:
    return NoiseStream(range(count), REVERSE, SHAPE, torch.device("cpu")).draw()


def _loaded(folder: Path, content: Any) -> Denoiser:
    path = save_pickle(content, folder / "network.pkl")
    return load_denoiser(main([str(path), f"--out={folder / 'out'}"]))


@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize("adm", [False, True])
def test_the_estimate_is_edms(tmp_path: Path, adm: bool, classes: int) -> None:
    original = network(adm=adm, classes=classes)
    denoiser = _loaded(tmp_path, {"ema": original, "augment_pipe": None, "loss_fn": {"p": 1.2}})
    assert (denoiser.classes, denoiser.null_class) == (classes or None, None)
    assert denoiser.image.shape == SHAPE
    labels = torch.tensor([1, 4]) if classes else None
    one_hot = None if labels is None else nn.functional.one_hot(labels, classes).float()
    for i in (0, 400, 999):
        sigma = float(denoiser.schedule.timesteps[i])
        x = 0.5 * torch.ones(2, *SHAPE) + sigma * _noise()
        x_t = x / (1 + sigma**2) ** 0.5
        eps = denoiser(x_t, i, denoiser.schedule, labels).eps
        expected = original(x, sigma, one_hot)
        found = denoiser.schedule.predict_x0(x_t, i, eps)
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_ddim_is_euler_on_karras_grid_from_sigma_max(tmp_path: Path) -> None:
    """Trap: EDM starts at 80 e, a scheduler for it at sqrt(80^2 + 1) e."""
    original, steps = network(adm=False), 9
    denoiser = _loaded(tmp_path, {"ema": original})
    roots = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), steps)
    sigmas = [*(roots**7), 0.0]
    x = 80.0 * _noise()
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(steps)
    y = 80.0 * _noise()
    run = reverse_process(denoiser, range(2), steps=steps, solver=DDIM())
    for now, after, t, state in zip(sigmas, sigmas[1:], scheduler.timesteps, run, strict=False):
        x = x + (after - now) * (x - original(x, now)) / now
        inner = original.model(scheduler.scale_model_input(y, t), t.repeat(2).float(), None)
        y = scheduler.step(inner, t, y).prev_sample
        found = state.x * (1 + after**2) ** 0.5
        for expected in (x, y):
            assert (found - expected).abs().max() / expected.abs().max() < 1e-4


def test_the_grid_ends_at_sigma_max_and_the_level_is_every_hosts() -> None:
    full = Schedule.karras()
    assert full.timesteps[[0, -1]] == pytest.approx([0.002, 80.0])
    assert full.respaced(1).timesteps == pytest.approx([80.0])
    for steps in (18, 40, 256):
        grid = full.respaced(steps)
        assert grid.start_scale * (1 + 80.0**2) ** 0.5 == pytest.approx(80.0)
        schedule, s = SelfGuidance().noised_at(full, grid)
        assert schedule.alpha_bar[s] == pytest.approx(0.0931, abs=1e-3)
        assert schedule.timesteps[s] == pytest.approx(3.12, abs=0.02)
        assert s / len(schedule) == pytest.approx(0.52, abs=0.01)
        at_fraction = SelfGuidance(perturb=0.8).noised_at(full, full.respaced(250))[1]
        assert full.respaced(250).timesteps[at_fraction] == pytest.approx(24, abs=1)  # the trap
    with pytest.raises(ValueError, match="1 to 1000 steps"):
        full.respaced(1001)


def test_what_it_was_not_trained_for_is_refused(tmp_path: Path) -> None:
    denoiser = _loaded(tmp_path, {"ema": network(adm=False, classes=3)})
    with pytest.raises(ValueError, match="without a null class"):
        towards_class(denoiser, 1.5)
    with pytest.raises(ValueError, match="is told sigma, not a timestep"):
        Temperature(score=1.1).applied(denoiser)
    with pytest.raises(ValueError, match=r"runs in torch\.float32 alone"):
        load_denoiser(tmp_path / "out", dtype=torch.float16)
    start, index = Boost(gamma=1.0, alpha_bar=0.0).start(denoiser, range(2), 9)
    assert index == 8
    torch.testing.assert_close(start * (1 + 80.0**2) ** 0.5, 80.0 * _noise())  # as an ordinary run
    features = DenoiserFeatures(denoiser)(torch.zeros(2, *SHAPE))
    assert features.shape[1] > 100  # of all blocks


def test_tensors_by_name_are_enough(tmp_path: Path) -> None:
    original = network(adm=True)
    by_object = _loaded(tmp_path, {"ema": original})
    (tmp_path / "plain").mkdir()
    by_name = _loaded(tmp_path / "plain", dict(original.model.state_dict()))
    x, sigma = _noise(), torch.tensor([2.0, 2.0])
    assert torch.equal(by_object.network(x, sigma), by_name.network(x, sigma))


class _Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


class _Other(EDMPrecond):
    """Called by another name than EDM's."""


class _Word:
    def __init__(self, content: Any) -> None:
        self.content = content


def test_other_files_are_refused_in_one_line_and_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = network(adm=False)
    state = dict(whole.model.state_dict())
    lacking = {name: tensor for name, tensor in state.items() if name != "map_layer1.bias"}
    residual = {"enc.8x8_conv.weight": torch.zeros(8, 3, 3, 3)}
    residual |= {
        "enc.4x4_aux_residual.weight": torch.zeros(1),
        "dec.4x4_in0.norm0.weight": torch.zeros(8),
    }
    flat = {"enc.8x8_conv.weight": torch.zeros(8), "dec.4x4_in0.norm0.weight": torch.zeros(8)}
    cyclic: dict[str, Any] = {}
    cyclic["again"] = cyclic
    for content, message in (
        ({"ema": _Payload()}, r"asks for posix\.system; allowed are tensors and plain containers"),
        ({"ema": _Word(1)}, r"asks for test_augment_pretrained_edm\._Word"),
        ({"ema": _Other(whole.model)}, "it is a _Other, not an EDMPrecond"),
        ({"ema": {"weight": torch.zeros(3)}}, "its 1 tensors are of no U-Net of EDM"),
        (residual, "a block 4x4_aux_residual, as NCSN"),
        (lacking, r"map_layer1\.bias|[Mm]issing"),
        ([], "its 0 tensors are of no U-Net"),
        ({"ema": torch.zeros(1).expand(1 << 40)}, "a tensor, not all of whose elements are in"),
        (flat, "holds no network that can be run"),
        (cyclic, "holds no network that can be run"),
    ):
        path = save_pickle(content, tmp_path / "bad.pkl")
        with pytest.raises(ValueError, match=message) as refusal:
            main([str(path), "--out=new"])
        assert "\n" not in str(refusal.value)
    path.write_bytes(pickle.dumps(state)[:-100])
    with pytest.raises(ValueError, match="is no pickle that can be read"):
        main([str(path), "--out=new"])
    with pytest.raises(FileNotFoundError, match="is missing"):
        main(["gone.pkl", "--out=new"])
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        main([str(path), f"--out={tmp_path}"])
    assert not Path("new").exists()
    assert not Path("executed").exists()
