"""Fits: they learn, repeat, resume, and their checkpoint is what labelers read."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from safetensors.torch import load_file

import classify.train
from classify import (
    Augmentation,
    FitConfig,
    FitResult,
    LossConfig,
    MixingConfig,
    StageConfig,
    fit,
    load_table,
    predict,
    save_checkpoint,
)
from classify.trainer import STATE, KeepBest, SaveState, forget_state, make_trainer

NAMES = ["red", "green"]
CONFIG = FitConfig(architecture="shufflenet_v2_x0_5", epochs=6, batch_size=16, lr=3e-3, rounds=3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """120 noise images; an attribute brightens its channel, and some labels are empty."""
    root, rng, rows = tmp_path_factory.mktemp("toy"), np.random.default_rng(0), []
    for i in range(120):
        on = rng.random(2) < 0.5
        pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
        pixels[..., :2] += (100 * on).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
        split = "train" if i < 80 else "val" if i < 100 else "test"
        rows.append(
            {"file_name": f"{i}.png", "split": split, "red": int(on[0]), "green": int(on[1])}
        )
    written = pd.DataFrame(rows)
    written["green"] = written["green"].where(written.index % 7 != 0)
    written.to_csv(root / "metadata.csv", index=False)
    return load_table(root)


def _fit(table: pd.DataFrame, config: FitConfig = CONFIG, **options: object) -> FitResult:
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    return fit(train, val, NAMES, config, device=torch.device("cpu"), **options)  # type: ignore[arg-type]


def _same(a: FitResult, b: FitResult) -> bool:
    ours, theirs = a.module.state_dict(), b.module.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fit_learns(table: pd.DataFrame) -> None:
    result = _fit(table, replace(CONFIG, architecture="resnet18", image_size=16, epochs=4))
    assert result.val_f1 > 0.8
    assert result.steps == 4 * 5
    assert 0 < result.best_step <= result.steps


def test_nothing_of_a_fits_training_stays(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[object]] = []

    def make(*arguments: Any) -> L.Trainer:
        trainer = make_trainer(*arguments)
        made.append(weakref.ref(trainer))
        return trainer

    monkeypatch.setattr(classify.train, "make_trainer", make)
    result = _fit(table, replace(CONFIG, epochs=1))
    assert made[0]() is None
    assert all(parameter.grad is None for parameter in result.module.parameters())


def test_fit_repeats_and_keeps_quiet(
    table: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    state = torch.random.get_rng_state()
    one, two = _fit(table, steps=4), _fit(table, steps=4)
    assert _same(one, two)
    assert not _same(one, _fit(table, steps=4, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's randomness is untouched
    assert capfd.readouterr() == ("", "")


def test_any_process_of_a_study_leaves_the_log_of_its_fits(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    _fit(
        table,
        replace(CONFIG, epochs=1),
        folder=tmp_path,
        logger=lambda folder: CSVLogger(folder, name="another"),
    )
    assert rank_zero_only.rank == 1
    for name in ("log", "another"):
        (log,) = tmp_path.glob(f"{name}/*/metrics.csv")
        assert len(pd.read_csv(log)["val/f1"].dropna()) == 3


def test_prediction_of_table_and_of_pixels_agree(table: pd.DataFrame) -> None:
    result = _fit(table, steps=3)
    test = table[table["split"] == "test"]
    probabilities = result.predict(test)
    assert probabilities.shape == (20, 2)
    assert probabilities.dtype == torch.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    pixels = torch.stack(
        [torch.from_numpy(np.array(Image.open(p))).permute(2, 0, 1) for p in test["path"]]
    )
    torch.testing.assert_close(
        result.predict(pixels, batch_size=7), probabilities, atol=1e-5, rtol=1e-4
    )
    assert predict(result.module, pixels[:0]).shape == (0, 2)


class _KilledError(Exception):
    pass


MIXED = replace(
    CONFIG,
    loss=LossConfig(margin=0.2, beta=0.9, defer=0.6, gamma_negative=1.0),
    mixing=MixingConfig(weight=0.5, own_norm=True),
    second_stage=StageConfig(share=0.5, rows="balanced", head=True),
)
"""Everything that depends on the step or on an image's source; it changes within the second of
three rounds."""


@pytest.mark.parametrize(
    ("config", "rounds_done"), [(CONFIG, 1), (CONFIG, 2), (MIXED, 1), (MIXED, 2)]
)
def test_killed_fit_resumes_to_the_same_weights(
    table: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: FitConfig,
    rounds_done: int,
) -> None:
    monkeypatch.setattr("classify.model.macro_f1", lambda _: 0.5)  # so that the last are kept
    table = table.assign(source=np.where(table.index % 3 == 2, "synthetic", "real"))
    whole = _fit(table, config)
    save = SaveState.on_train_epoch_end

    def save_then_die(self: SaveState, trainer: L.Trainer, module: L.LightningModule) -> None:
        save(self, trainer, module)
        if trainer.current_epoch + 1 == rounds_done:
            raise _KilledError

    with monkeypatch.context() as patched:
        patched.setattr(SaveState, "on_train_epoch_end", save_then_die)
        with pytest.raises(_KilledError):
            _fit(table, config, folder=tmp_path)
    resumed = _fit(table, config, folder=tmp_path)
    assert resumed.best_step == whole.best_step
    assert resumed.val_f1 == whole.val_f1
    assert _same(resumed, whole)
    logs = [pd.read_csv(file) for file in sorted(tmp_path.glob("log/*/metrics.csv"))]
    assert [len(log["val/f1"].dropna()) for log in logs] == [rounds_done, 3 - rounds_done]


def test_a_retrained_head_leaves_the_trunk_as_the_first_stage_left_it(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classify.model.macro_f1", lambda _: 0.5)
    config = replace(CONFIG, rounds=2, second_stage=StageConfig(share=0.5, rows="all", head=True))
    first = _states(table, replace(config, second_stage=StageConfig()), monkeypatch)
    both = _states(table, config, monkeypatch)
    assert all(torch.equal(first[0][name], both[0][name]) for name in first[0])
    changed = {name for name in both[0] if not torch.equal(both[0][name], both[1][name])}
    assert changed == {"network.fc.weight", "network.fc.bias"}
    assert all(parameter.requires_grad for parameter in _fit(table, config).module.parameters())


def _states(
    table: pd.DataFrame, config: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, torch.Tensor]]:
    """The weights at each validation."""
    states: list[dict[str, torch.Tensor]] = []
    keep = KeepBest.on_validation_end

    def kept(self: KeepBest, trainer: L.Trainer, module: L.LightningModule) -> None:
        keep(self, trainer, module)
        states.append(self.weights)

    with monkeypatch.context() as patched:
        patched.setattr(KeepBest, "on_validation_end", kept)
        _fit(table, config)
    return states


def test_synthetic_rows_that_weigh_nothing_leave_no_gradient_but_in_shared_statistics(
    table: pd.DataFrame,
) -> None:
    """With statistics of their own too, what they show cannot change the weights."""
    table = table.assign(source=np.where(table.index % 2, "synthetic", "real"))
    made = table["source"] == "synthetic"
    flipped = table.assign(red=table["red"].where(~made | (table["split"] != "train"), 1.0))
    config = replace(CONFIG, architecture="resnet18", batch_size=32)
    for own_norm in (False, True):
        none = replace(config, mixing=MixingConfig(weight=0.0, own_norm=own_norm))
        assert _same(*(_fit(t, none, steps=3) for t in (table, flipped)))
    some = replace(config, mixing=MixingConfig(weight=0.5, own_norm=True))
    assert not _same(*(_fit(t, some, steps=3) for t in (table, flipped)))


def test_a_head_of_cosines_is_no_labelers_checkpoint(table: pd.DataFrame, tmp_path: Path) -> None:
    module = _fit(table, replace(CONFIG, loss=LossConfig(margin=0.5)), steps=2).module
    with pytest.raises(ValueError, match=r"loss\.margin .*give 0"):
        save_checkpoint(tmp_path / "new", module, source="", licence="", command="")
    assert not (tmp_path / "new").exists()


def test_a_fit_that_ends_too_early_is_not_taken_for_a_finished_one(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = SaveState.on_train_epoch_end

    def save_then_stop(self: SaveState, trainer: L.Trainer, module: L.LightningModule) -> None:
        save(self, trainer, module)
        trainer.should_stop = True

    with monkeypatch.context() as patched:
        patched.setattr(SaveState, "on_train_epoch_end", save_then_stop)
        with pytest.raises(RuntimeError, match=r"stopped after 10 of 30 steps; the same call cont"):
            _fit(table, folder=tmp_path)
    assert _same(_fit(table, folder=tmp_path), _fit(table))


def test_best_weights_are_kept_not_the_last(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.8, 0.5])
    monkeypatch.setattr("classify.model.macro_f1", lambda _: next(scores))
    result = _fit(table)
    assert result.best_step == 20
    assert result.val_f1 == pytest.approx(0.8)


def test_steps_do_not_depend_on_the_number_of_rows(table: pd.DataFrame) -> None:
    assert _fit(table, steps=4).steps == 4
    more = pd.concat([table, table[table["split"] == "train"].assign(source="synthetic")])
    once = replace(CONFIG, epochs=1)
    assert _fit(more, once).steps == _fit(table, once).steps == 5


def test_same_seed_gives_the_same_initial_weights_in_every_arm(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[torch.Tensor] = []
    make = classify.train.AttributeClassifier

    def remember(*args: Any, **options: Any) -> object:
        module = make(*args, **options)
        built.append(torch.cat([p.detach().flatten().clone() for p in module.parameters()]))
        return module

    monkeypatch.setattr(classify.train, "AttributeClassifier", remember)
    _fit(table, steps=1)
    _fit(table[table.index % 3 != 1], steps=1)
    assert torch.equal(*built)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["split"] != "val"], "split val has no image"),
        (
            lambda t: t.assign(red=t["red"].where(t["split"] != "train", 0.0)),
            "positive for red; .* leave it out",
        ),
    ],
)
def test_nothing_to_learn_from(table: pd.DataFrame, change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _fit(change(table))  # type: ignore[operator]


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0}, {"batch_size": 1}, {"image_size": 0}, {"rounds": 0}, {"lr": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -1.0}, {"warmup": 1.0}, {"final_lr": 0.0}, {"architecture": "resnet1"},
        {"epochs": 10**20}, {"architecture": "vit_b_16"}, {"architecture": "googlenet"},
    ],
)  # fmt: skip
def test_config_says_what_is_allowed(bad: dict[str, object]) -> None:
    refusal = rf"{next(iter(bad))} is .*; (did you mean resnet18\? )?give"
    with pytest.raises(ValueError, match=refusal) as error:
        FitConfig(**bad)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: MixingConfig(weight=-1.0), "mixing.weight is -1.0; give a number from 0"),
        (lambda: MixingConfig(weight=1e300), "mixing.weight is 1e\\+300; give a number from 0 to"),
        (
            lambda: Augmentation(operations=101),
            r"augmentation.operations is 101; .* \[0, 100\]",
        ),
        (lambda: StageConfig(share=1.5), "second_stage.share is 1.5; give a share"),
    ],
)
def test_mixing_and_stages_say_what_is_allowed(bad: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bad()


def test_a_network_that_cannot_be_tried_is_taken() -> None:
    assert FitConfig(architecture="regnet_y_400mf").architecture == "regnet_y_400mf"


def test_paper_settings() -> None:
    paper = FitConfig.paper()
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == (
        "sgd",
        0.1,
        0.9,
        1e-4,
    )
    assert (paper.image_size, paper.batch_size, paper.warmup) == (64, 256, 0.0)
    assert paper.final_lr ** (1 / paper.epochs) == pytest.approx(0.9)


@pytest.mark.parametrize("half", [False, True])
def test_checkpoint_is_read_back_as_a_labeler_would(
    table: pd.DataFrame, tmp_path: Path, half: bool
) -> None:
    result = _fit(table, steps=3)
    folder = tmp_path / "new" / "labeler"
    card = {"source": "toy", "licence": "CC0", "command": "pytest", "thresholds": {"red": 0.3}}
    save_checkpoint(folder, result.module, half=half, **card)  # type: ignore[arg-type]
    written = json.loads((folder / "card.json").read_text())
    assert written["attributes"] == NAMES
    assert written["thresholds"] == {"red": 0.3, "green": 0.5}
    network = torchvision.models.get_model(written["architecture"], num_classes=2).eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(written[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        probabilities = network((images / 255 - mean) / std).sigmoid()
    torch.testing.assert_close(
        probabilities, result.predict(images), atol=3e-3 if half else 1e-5, rtol=0
    )
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "model.safetensors"]
    with pytest.raises(ValueError, match=r"holds a checkpoint; .*give another --out"):
        save_checkpoint(folder, result.module, **card)  # type: ignore[arg-type]


def test_prediction_leaves_the_classifier_where_it_was(table: pd.DataFrame) -> None:
    """A device that has no memory stands for the caller's GPU: coming back from it is an error."""
    module = _fit(table, steps=1).module
    computed_on: list[torch.device] = []

    class Away(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            computed_on.append(x.device)
            return torch.zeros(len(x), 2, device="cpu")

    module.network = Away()
    module.to("meta")
    assert predict(module, torch.zeros(3, 3, 32, 32, dtype=torch.uint8)).shape == (3, 2)
    assert module.mean.device == computed_on[0] == torch.device("meta")


def test_the_state_is_written_beside_its_target_only(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a killed run leaves it in the system's temporary folder."""
    (tmp_path / "system").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{STATE}.1.tmp").touch()  # of a killed run
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "system"))
    written: list[list[str]] = []
    monkeypatch.setattr(
        "classify.files.os.replace",
        lambda *_: written.append([file.name for file in (tmp_path / "system").iterdir()]),
    )
    monkeypatch.setattr(tempfile, "mkstemp", None)
    _fit(table, folder=tmp_path / "out", steps=3)
    assert written == [[]] * 3
    forget_state(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["log"]


def test_a_damaged_state_is_made_again(
    table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _fit(table, folder=tmp_path, steps=3)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:1000])
    assert _same(_fit(table, folder=tmp_path, steps=3), whole)
    assert f"{tmp_path / STATE} is damaged" in caplog.text
