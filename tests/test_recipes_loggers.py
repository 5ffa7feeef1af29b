"""Loggers by name or class path, and that every fit and training writes to the one asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger

from classify.report import curves_section, read_curves
from recipes.chain.command import loggers
from recipes.chain.command.files import write_parquet
from recipes.chain.command.loggers import logger_of


def test_without_a_name_there_is_none() -> None:
    assert logger_of(None) is None


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_a_named_one_writes_files_beside_the_training(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    make = logger_of(name)
    assert make is not None
    logger = make(tmp_path)
    logger.log_metrics({"train/loss": 0.5}, step=1)
    logger.save()
    logger.finalize("success")
    assert any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_class_is_given_by_its_path(tmp_path: Path) -> None:
    make = logger_of("lightning.pytorch.loggers.CSVLogger")
    assert make is not None
    logger = make(tmp_path)
    assert isinstance(logger, CSVLogger)
    assert logger.save_dir == str(tmp_path)


def test_what_is_no_logger_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pathlib.Path", "no.such.Logger", "wand"):
        with pytest.raises(ValueError, match=rf"^logger is {name}; give tensorboard"):
            logger_of(name)
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"logger is wandb, .*; pip install 'minority-augment\[l"):
        logger_of("wandb")


def test_a_module_of_that_name_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"logger is evil\.Logger; give tensorboard"):
        logger_of("evil.Logger")
    assert not (tmp_path / "executed").exists()


def test_a_table_is_written_as_parquet_and_read_back(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"arm": ["real", "real"], "value": [0.1 + 0.2, float("nan")]})
    write_parquet(tmp_path / "scores.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "scores.parquet"), table)


def test_the_logs_of_all_sessions_of_a_fit_make_its_curves(tmp_path: Path) -> None:
    log = tmp_path / "fits" / "real-0" / "log"
    for session, rows in (
        (1, "step,val/f1,val/loss\n9,0.125,0.75\n"),  # stopped before it logged the loss
        (2, "step,train/loss,val/f1,val/loss\n9,0.5,,\n9,,0.25,0.75\n"),
        (10, "step,train/loss,val/f1,val/loss\n9,0.5,,\n9,,0.375,0.75\n19,0.25,,\n"),
        (11, ""),  # the disk was full
        (12, "step,train/loss,val/f1,val/loss\n29,1e-"),
    ):
        (log / f"version_{session}").mkdir(parents=True)
        (log / f"version_{session}" / "metrics.csv").write_text(rows)
    curves = read_curves(tmp_path, ["real", "rare"], 2)
    assert set(curves["arm"]) == {"real"}
    assert set(curves["seed"]) == {0}
    found = {(m, s): v for m, s, v in curves[["metric", "step", "value"]].itertuples(index=False)}
    assert found == {
        ("train/loss", 10): 0.5,
        ("val/f1", 10): 0.375,
        ("val/loss", 10): 0.75,
        ("train/loss", 20): 0.25,
    }
    section = curves_section(curves, {"real": 0})
    assert section is not None
    label = section.blocks[0].label  # type: ignore[union-attr]
    told = "real: training loss 0.250; real: validation loss 0.750; real: validation F1 0.375."
    assert label.endswith(told)
    assert curves_section(read_curves(tmp_path, ["rare"], 2), {}) is None
