"""Training a generator: a folder comes out, a stopped run goes on, bad input is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline
from PIL import Image
from torch import Tensor

from augment import load_denoiser, sample
from augment.train import GeneratorTraining, NetworkConfig, TrainConfig, train_generator

NETWORK = NetworkConfig(size=8, widths=(8, 8), attention_levels=(1,))
TRAINING = TrainConfig(steps=4, batch_size=3, sample_every=4, checkpoint_every=2, ema=0.5)

pytestmark = [
    # Lightning's own: it calls a deprecated class of torch, and gives tips.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*resumed from the checkpoint ended.*"),
]


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (8, 3, 8, 8), generator=generator, dtype=torch.uint8)


def _train(images: Tensor, out: Path, **changes: object) -> Path:
    options: dict[str, object] = {"network": NETWORK, "training": TRAINING}
    return train_generator(images, out, accelerator="cpu", devices=1, **options | changes)  # type: ignore[arg-type]


def _count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    taken: list[int] = []
    step = GeneratorTraining.training_step

    def counted(self: GeneratorTraining, batch: Tensor, batch_index: int) -> Tensor:
        taken.append(self.trainer.global_step)
        return step(self, batch, batch_index)

    monkeypatch.setattr(GeneratorTraining, "training_step", counted)
    return taken


def test_the_folder_that_comes_out_is_a_generator_for_us_and_for_diffusers(
    images: Tensor, tmp_path: Path
) -> None:
    folder = _train(images, tmp_path / "out", trained_on="noise")
    assert folder == tmp_path / "out" / "generator"
    denoiser = load_denoiser(folder)
    assert (denoiser.variance, denoiser.image.shape) == ("learned_range", (3, 8, 8))
    assert len(denoiser.schedule) == 1000
    assert sample(denoiser, [0, 1], steps=3).shape == (2, 3, 8, 8)
    assert DDPMPipeline.from_pretrained(folder).unet.config["out_channels"] == 6
    assert (denoiser.card["images"], denoiser.card["trained_on"]) == (8, "noise")
    assert denoiser.card["training"]["steps"] == 4
    with Image.open(tmp_path / "out" / "samples" / "0000004.png") as picture:
        assert picture.size == (8 * 10 + 2, 8 * 10 + 2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "checkpoints",
        "generator",
        "logs",
        "samples",
    }


def test_training_is_reproduced_by_its_seed(images: Tensor, tmp_path: Path) -> None:
    first, again = (load_denoiser(_train(images, tmp_path / name)) for name in "ab")
    other = load_denoiser(
        _train(images, tmp_path / "c", training=TrainConfig(**{**vars(TRAINING), "seed": 1}))
    )
    assert first.card["sha256"] == again.card["sha256"] != other.card["sha256"]


def test_the_saved_weights_are_the_moving_average(images: Tensor, tmp_path: Path) -> None:
    folder = _train(images, tmp_path / "out")
    state = torch.load(tmp_path / "out/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    saved = load_denoiser(folder).network.state_dict()
    average = {k.removeprefix("average.module."): v for k, v in state.items() if "average.m" in k}
    assert saved.keys() == average.keys()
    assert all(torch.equal(saved[key], average[key]) for key in saved)
    assert any(not torch.equal(saved[key], state[f"network.{key}"]) for key in saved)


def test_a_stopped_run_takes_only_the_steps_that_remain(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = _count_steps(monkeypatch)

    def stop(self: GeneratorTraining, *_: object) -> None:
        if self.trainer.global_step == 3:
            raise KeyError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTraining, "on_train_batch_end", stop)
        with pytest.raises(KeyError, match="power cut"):
            _train(images, tmp_path / "out")
    assert not (tmp_path / "out" / "generator").exists()
    assert taken == [0, 1, 2]
    _train(images, tmp_path / "out")
    assert taken == [0, 1, 2, 2, 3]  # From the checkpoint of step 2.
    before = load_denoiser(tmp_path / "out" / "generator").card["sha256"]
    _train(images, tmp_path / "out")
    assert taken == [0, 1, 2, 2, 3]
    logs = [tmp_path / "out" / "logs" / f"version_{run}" for run in range(2)]
    assert all(log.is_dir() for log in logs)  # One run's log does not delete another's.
    assert load_denoiser(tmp_path / "out" / "generator").card["sha256"] == before


@pytest.mark.parametrize(
    "change",
    [
        {"training": TrainConfig(**{**vars(TRAINING), "steps": 6})},
        {"network": NetworkConfig(size=8, widths=(8, 16), attention_levels=())},
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    images: Tensor, tmp_path: Path, change: dict[str, object]
) -> None:
    _train(images, tmp_path / "out")
    before = (tmp_path / "out" / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(
        ValueError, match=r"give the same images and settings, or another --out$"
    ) as refusal:
        _train(images, tmp_path / "out", **change)
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "out" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_grey_images_and_a_network_of_one_channel(images: Tensor, tmp_path: Path) -> None:
    network = NetworkConfig(size=8, channels=1, widths=(8, 8), attention_levels=())
    denoiser = load_denoiser(_train(images[:6, :1], tmp_path / "out", network=network))
    assert denoiser.image.shape == (1, 8, 8)
    assert denoiser.card["images"] == 6


def test_images_that_do_not_fit_are_refused(images: Tensor, tmp_path: Path) -> None:
    for wrong, message in (
        (
            images[:, :, :4],
            r"are torch.uint8 of shape \(3, 4, 8\); allowed is .* \(3, 8, 8\); give",
        ),
        (images[:, :1], r"are torch.uint8 of shape \(1, 8, 8\); allowed is .* \(3, 8, 8\); give"),
        (images.float(), r"are torch.float32 of shape \(3, 8, 8\); allowed is torch.uint8"),
        (images[:0], "there are 0 images; training needs at least 1; give some"),
    ):
        with pytest.raises(ValueError, match=message):
            _train(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_learning_rate_warms_up_and_ends_near_zero() -> None:
    module = GeneratorTraining(NETWORK, TrainConfig(steps=1000))
    factors = [module._lr_factor(step) for step in range(1001)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[99] == factors[100] == 1.0
    assert factors[550] == pytest.approx(0.5)
    assert factors[1000] == pytest.approx(0.0)
    assert all(0 < factor <= 1 for factor in factors[:1000])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (NetworkConfig, {"size": 30}, "network.size is 30; 4 widths .*; give a multiple of 8$"),
        (NetworkConfig, {"channels": 4}, "network.channels is 4; give 1 .grey. or 3"),
        (NetworkConfig, {"size": 0}, "network.size is 0; 4 widths .*; give a multiple of 8$"),
        (NetworkConfig, {"blocks": 0}, "network.blocks is 0; give at least 1$"),
        (NetworkConfig, {"widths": ()}, r"network.widths are \(\); "),
        (
            NetworkConfig,
            {"attention_levels": (1, 4)},
            r"network.attention_levels has 4; allowed are 0 to 3, .* or \[\] for none$",
        ),
        (NetworkConfig, {"widths": (8, 12)}, "network.widths are .8, 12.; .*multiples of 8$"),
        (TrainConfig, {"steps": 0}, "training.steps is 0; give at least 1$"),
        (TrainConfig, {"batch_size": 0}, "training.batch_size is 0; give at least 1$"),
        (TrainConfig, {"sample_every": 0}, "training.sample_every is 0; give at least 1$"),
        (TrainConfig, {"workers": -1}, "training.workers is -1; give 0 or more$"),
        (TrainConfig, {"lr": 0.0}, "training.lr is 0.0; give a positive learning rate$"),
        (TrainConfig, {"ema": 1.0}, "training.ema is 1.0; give a number from 0 to below 1"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(
    kind: type[NetworkConfig] | type[TrainConfig], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(**settings)  # type: ignore[arg-type]


def test_a_run_of_other_images_is_refused(images: Tensor, tmp_path: Path) -> None:
    _train(images, tmp_path / "out", sources={"images_sha256": "a"})
    card = (tmp_path / "out" / "generator" / "card.json").read_bytes()
    with pytest.raises(ValueError, match=r"other images \(a, now b\); give .* another --out"):
        _train(images, tmp_path / "out", sources={"images_sha256": "b"})
    assert (tmp_path / "out" / "generator" / "card.json").read_bytes() == card


def test_a_checkpoint_that_was_cut_off_is_refused(images: Tensor, tmp_path: Path) -> None:
    _train(images, tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoints" / "last.ckpt"
    for content in (checkpoint.read_bytes()[:1000], b""):
        checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.ckpt is damaged .*; delete it to begin again"):
            _train(images, tmp_path / "out")


def test_a_run_from_another_start_is_refused(images: Tensor, tmp_path: Path) -> None:
    start = _train(images, tmp_path / "start")
    _train(images, tmp_path / "out")
    with pytest.raises(ValueError, match="other start"):
        _train(images, tmp_path / "out", start=start)
    with pytest.raises(
        ValueError, match=r"avatars-32 has another network than network\.\* describ"
    ):
        _train(images, tmp_path / "new", start="avatars-32")


def test_it_starts_from_another_generators_weights(images: Tensor, tmp_path: Path) -> None:
    start = _train(images, tmp_path / "start")
    still = TrainConfig(**{**vars(TRAINING), "steps": 1, "lr": 1e-12})
    folder = _train(images, tmp_path / "out", start=start, training=still)
    first, after = (load_denoiser(path) for path in (start, folder))
    for key, value in first.network.state_dict().items():
        torch.testing.assert_close(after.network.state_dict()[key], value)
    assert after.card["start_sha256"] == first.card["sha256"]


def test_a_restart_does_not_repeat_the_first_sessions_noise(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    step = GeneratorTraining.training_step

    def noted(self: GeneratorTraining, batch: Tensor, batch_index: int) -> Tensor:
        seeds.append(torch.initial_seed())
        if len(seeds) == 4:
            raise KeyError("power cut")
        return step(self, batch, batch_index)

    monkeypatch.setattr(GeneratorTraining, "training_step", noted)
    with pytest.raises(KeyError):
        _train(images, tmp_path / "out")
    _train(images, tmp_path / "out")
    assert seeds == [0, 0, 0, 0, 2, 2]


def test_a_training_that_ends_too_early_is_not_taken_for_a_finished_one(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = GeneratorTraining.training_step

    def last_one(self: GeneratorTraining, batch: Tensor, batch_index: int) -> Tensor:
        self.trainer.should_stop = batch_index > 0  # a whole epoch, of two batches
        return step(self, batch, batch_index)

    with monkeypatch.context() as patched:
        patched.setattr(GeneratorTraining, "training_step", last_one)
        with pytest.raises(RuntimeError, match=r"stopped after \d+ of \d+ steps; the same call"):
            _train(images, tmp_path / "out")
    assert not (tmp_path / "out" / "generator").exists()
    assert _train(images, tmp_path / "out").is_dir()


SCRIPT = """
import sys
from pathlib import Path
import torch
from augment.train import NetworkConfig, TrainConfig, train_generator
network = NetworkConfig(size=8, widths=(8, 8), attention_levels=(1,))
images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
training = TrainConfig(steps=2, batch_size=2)
train_generator(images, Path(sys.argv[1]), network, training, accelerator="cpu", devices=2)
"""


def test_two_processes_train_together(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert load_denoiser(tmp_path / "out" / "generator").image.shape == (3, 8, 8)
