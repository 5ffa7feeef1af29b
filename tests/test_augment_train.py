"""Training a generator: a folder comes out, a stopped run goes on, bad input is one line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline
from PIL import Image
from torch import Tensor

from augment import DenoiserFeatures, load_denoiser, sample
from augment.classifier_free import towards_class
from augment.train import GeneratorTraining, NetworkConfig, TrainConfig, train_generator

NETWORK = NetworkConfig(size=8, widths=(8, 8), attention_levels=(1,))


class Ended(BaseException):
    """What SIGTERM raises here."""


TRAINING = TrainConfig(steps=4, batch_size=3, sample_every=4, checkpoint_every=2, ema=0.5)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (8, 3, 8, 8), generator=generator, dtype=torch.uint8)


def _train(images: Tensor, out: Path, **changes: object) -> Path:
    options: dict[str, object] = {"start": NETWORK, "training": TRAINING}
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


def test_checkpoints_are_written_beside_their_place(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a killed training leaves them in the system's temporary folder."""
    monkeypatch.setattr(tempfile, "mkstemp", None)
    _train(images, tmp_path / "out")
    assert (tmp_path / "out" / "checkpoints" / "last.ckpt").is_file()


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


def test_a_stopped_run_leaves_the_generator_of_its_last_samples(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: GeneratorTraining, *_: object) -> None:
        if self.trainer.global_step == 3:
            raise KeyError("power cut")

    monkeypatch.setattr(GeneratorTraining, "on_train_batch_end", stop)
    with pytest.raises(KeyError, match="power cut"):
        _train(images, tmp_path, training=TrainConfig(**{**vars(TRAINING), "sample_every": 2}))
    denoiser = load_denoiser(tmp_path / "generator")
    assert denoiser.card["steps_done"] == 2
    # Of the average, which is what the checkpoint of the same step holds.
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    saved = denoiser.network.state_dict()
    assert all(torch.equal(saved[key], state[f"average.module.{key}"]) for key in saved)


@pytest.mark.parametrize(
    "change",
    [
        {"training": TrainConfig(**{**vars(TRAINING), "lr": 6.0})},
        {"start": NetworkConfig(size=8, widths=(8, 16), attention_levels=())},
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
    denoiser = load_denoiser(_train(images[:6, :1], tmp_path / "out", start=network))
    assert denoiser.image.shape == (1, 8, 8)
    assert denoiser.card["images"] == 6


def test_images_that_do_not_fit_are_refused(images: Tensor, tmp_path: Path) -> None:
    for wrong, message in (
        (
            images[:, :, :4],
            r"are torch.uint8 of shape \(3, 4, 8\); give .* \(3, 8, 8\), or",
        ),
        (images[:, :1], r"are torch.uint8 of shape \(1, 8, 8\); give .* \(3, 8, 8\), or"),
        (images.float(), r"are torch.float32 of shape \(3, 8, 8\); give torch.uint8"),
        (images[:0], "there are 0 images; training needs at least 1; give some"),
    ):
        with pytest.raises(ValueError, match=message):
            _train(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_learning_rate_warms_up_and_ends_near_zero() -> None:
    module = GeneratorTraining(NETWORK.build(), TrainConfig(steps=1000))
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
            r"network.attention_levels has 4; give some of 0 to 3, .* or \[\] for none$",
        ),
        (NetworkConfig, {"widths": (8, 12)}, "network.widths are .8, 12.; .*multiples of 8$"),
        (TrainConfig, {"steps": 0}, "training.steps is 0; give at least 1$"),
        (TrainConfig, {"batch_size": 0}, "training.batch_size is 0; give at least 1$"),
        (TrainConfig, {"sample_every": 0}, "training.sample_every is 0; give at least 1$"),
        (TrainConfig, {"workers": -1}, "training.workers is -1; give 0 or more$"),
        (TrainConfig, {"lr": 0.0}, "training.lr is 0.0; give a positive learning rate$"),
        (TrainConfig, {"patience": -1}, "training.patience is -1; give 0 or more"),
        (TrainConfig, {"label_dropout": 1.0}, "training.label_dropout is 1.0; give a share from 0"),
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
    with pytest.raises(ValueError, match=r"other images; give .* another --out"):
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
    start = load_denoiser(_train(images, tmp_path / "start"))
    _train(images, tmp_path / "out")
    with pytest.raises(ValueError, match="other start"):
        _train(images, tmp_path / "out", start=start)


def test_it_starts_from_another_generators_weights(images: Tensor, tmp_path: Path) -> None:
    first = load_denoiser(_train(images, tmp_path / "start"))
    still = TrainConfig(**{**vars(TRAINING), "steps": 1, "lr": 1e-12})
    after = load_denoiser(_train(images, tmp_path / "out", start=first, training=still))
    for key, value in first.network.state_dict().items():
        torch.testing.assert_close(after.network.state_dict()[key], value)
    assert after.card["start_sha256"] == first.card["sha256"]
    assert not any(parameter.requires_grad for parameter in first.network.parameters())


def test_more_steps_continue_a_training_that_has_ended_and_fewer_are_refused(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = _count_steps(monkeypatch)
    _train(images, tmp_path / "out")
    more = TrainConfig(**{**vars(TRAINING), "steps": 7, "sample_every": 7, "checkpoint_every": 9})
    folder = _train(images, tmp_path / "out", training=more)
    assert taken == list(range(7))
    assert load_denoiser(folder).card["training"]["steps"] == 7
    assert (tmp_path / "out" / "samples" / "0000007.png").is_file()
    with pytest.raises(
        ValueError, match=r"training.steps is 4, but .* has 7 steps behind it; give at least as"
    ):
        _train(images, tmp_path / "out")


def test_what_a_short_and_a_long_training_did_is_forgotten_by_neither(images: Tensor) -> None:
    """The learning rate is the longer schedule's at once, and the average goes on."""
    module = GeneratorTraining(NETWORK.build(), TrainConfig(steps=20_000))
    assert module._lr_factor(10_000) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (15, Ended)])
def test_a_signal_is_heeded_after_its_step_and_nothing_is_lost(
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[BaseException],
) -> None:
    def end(number: int, frame: object) -> None:
        raise kind

    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    taken = _count_steps(monkeypatch)
    step = GeneratorTraining.training_step

    def stop(self: GeneratorTraining, *batch: object) -> Tensor:
        if self.trainer.global_step == 2 and len(taken) == 2:
            signal.raise_signal(number)
        return step(self, *batch)  # type: ignore[arg-type]

    try:
        with monkeypatch.context() as patch:
            patch.setattr(GeneratorTraining, "training_step", stop)
            with pytest.raises((kind, SystemExit)):
                _train(images, tmp_path / "out")
        assert signal.getsignal(number) in (end, signal.SIG_IGN)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    _train(images, tmp_path / "out")
    assert taken == [0, 1, 2, 3]


def test_the_time_is_told_before_and_on_the_way(
    images: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(images, tmp_path / "out", training=TrainConfig(steps=20, batch_size=2, sample_every=99))
    first, *lines = capsys.readouterr().out.splitlines()
    told = r"8 more steps take about \d+ s \(0\.\d+ s a step, measured on 10\)"
    assert re.fullmatch(told, next(line for line in [first, *lines] if "more steps" in line))
    assert re.fullmatch(r"step 18 of 20: loss \d\.\d{3}, about \d+ s left", lines[-1])


def test_it_ends_where_samples_come_no_nearer_and_goes_on_if_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = torch.randint(
        0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    taken = _count_steps(monkeypatch)
    still = TrainConfig(
        steps=9, batch_size=4, lr=1e-12, ema=0.0, sample_every=1, patience=3, checkpoint_every=99
    )
    folder = _train(images, tmp_path / "out", training=still)
    count = len(taken)
    assert 4 <= count < 9  # the first samples are the nearest so far; 3 more are waited for
    assert load_denoiser(folder).image.size == 8
    told = capsys.readouterr().out
    assert re.search(r"step 1: samples \w.*: \d+% of them lie outside", told)
    assert "no nearer to the images in 3 intervals of 1 steps, so the training ends;" in told
    _train(images, tmp_path / "out", training=still)
    assert len(taken) == count
    _train(images, tmp_path / "out", training=replace(still, patience=0))
    assert taken == list(range(9))


LABELS = ["a", "b", "", "a", "b", "c", "a", "b"]


def test_with_labels_each_class_is_learned_and_a_null_class(images: Tensor, tmp_path: Path) -> None:
    folder = _train(images, tmp_path / "out", labels=LABELS)
    denoiser = load_denoiser(folder)
    assert (denoiser.classes, denoiser.null_class) == (3, 3)
    assert denoiser.card["classes"] == ["a", "b", "c"]
    assert denoiser.network.config["num_class_embeds"] == 4
    assert sample(denoiser, [0, 1], steps=3, labels=[0, 2]).shape == (2, 3, 8, 8)
    assert DenoiserFeatures(denoiser)(torch.zeros(2, 3, 8, 8)).shape[0] == 2
    with pytest.raises(ValueError, match="label 3 is no class of the model; give one of 0 to 2"):
        sample(denoiser, [0], labels=[3])
    with pytest.raises(ValueError, match="belongs to a run with other labels"):
        _train(images, tmp_path / "out", labels=[*LABELS[:-1], "c"])
    again = load_denoiser(_train(images, tmp_path / "more", start=denoiser, labels=LABELS))
    assert again.classes == 3
    with pytest.raises(ValueError, match="the start has 3 classes, the images none; name their"):
        _train(images, tmp_path / "none", start=denoiser)


def test_labels_that_make_no_classes_are_refused(images: Tensor, tmp_path: Path) -> None:
    for labels, message in (
        (["a"] * 8, "the images have 1 classes; a generator with classes needs at least 2"),
        (["a"], "there are 1 labels of 8 images; give one per image"),
    ):
        with pytest.raises(ValueError, match=message):
            _train(images, tmp_path / "out", labels=labels)


def test_the_classes_of_images_are_told_apart_after_a_short_training(tmp_path: Path) -> None:
    """Dark and bright images: each class's samples have its brightness, and guidance adds to it."""
    levels = torch.tensor([40, 215] * 32, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    training = TrainConfig(steps=400, batch_size=32, lr=3e-3, ema=0.9, sample_every=999)
    folder = _train(
        levels.expand(-1, 3, 8, 8).clone(),
        tmp_path / "out",
        training=training,
        labels=["0", "1"] * 32,
    )
    denoiser = load_denoiser(folder)
    dark, bright = (
        sample(denoiser, range(16), steps=10, labels=[k] * 16).float().mean() for k in (0, 1)
    )
    assert bright - dark > 80
    null = sample(denoiser, range(16), steps=10, labels=[0] * 16)
    assert torch.equal(
        sample(towards_class(denoiser, 1.0), range(16), steps=10, labels=[0] * 16), null
    )


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
