"""Studies: same result in memory, through files, after a kill and on several processes; and what is
refused.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric.strategies import DDPStrategy
from PIL import Image

import classify.study
import classify.train
from classify import FitConfig, attribute_scores, load_table, read_predictions, run_study
from classify.metrics import fitted_scores

NAMES = ["red", "green"]
CONFIG = FitConfig(architecture="shufflenet_v2_x0_5", epochs=2, batch_size=16, lr=3e-3, rounds=2)
Arms = dict[str, pd.DataFrame]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    root, rng, rows = tmp_path_factory.mktemp("toy"), np.random.default_rng(0), []
    for i in range(96):
        on = rng.random(2) < 0.5
        pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
        pixels[..., :2] += (60 * on).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
        split, source = (
            ("val", "real") if i < 16 else ("test", "real") if i < 48 else ("train", "real")
        )
        source = "synthetic" if i >= 80 else source
        rows.append(
            {
                "file_name": f"{i}.png",
                "split": split,
                "source": source,
                "red": on[0] * 1,
                "green": on[1] * 1,
            }
        )
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    table = load_table(root)
    return {"real": table[table["source"] == "real"], "plain": table}


def _with_synthetic_val(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(split=table["split"].where(table.index != 90, "val"))


def _run(
    arms: Arms, seeds: int = 2, config: FitConfig = CONFIG, out: Path | None = None
) -> pd.DataFrame:
    fabric = L.Fabric(accelerator="cpu", devices=1)
    return run_study(arms, NAMES, config, seeds=seeds, out=out, fabric=fabric)


@pytest.fixture(scope="module")
def scores(arms: Arms) -> pd.DataFrame:
    torch.set_num_threads(1)
    return _run(arms)


@pytest.fixture(scope="module")
def finished(arms: Arms, scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the first fit."""
    out = tmp_path_factory.mktemp("finished")
    _run({"real": arms["real"]}, seeds=1, out=out)
    return out


def test_scores_are_tidy_and_complete(scores: pd.DataFrame) -> None:
    assert list(scores.columns) == ["arm", "seed", "split", "attribute", "metric", "value"]
    of_split = (len(NAMES) + 1) * 4 + 2 * 3  # F1 at fitted thresholds on test alone
    assert len(scores) == 2 * 2 * (2 * of_split + len(NAMES) + 1)
    assert not scores.duplicated(list(scores.columns[:-1])).any()
    assert set(scores["attribute"]) == {*NAMES, "macro", "micro", "samples"}
    assert set(scores["split"]) == {"val", "test"}
    assert set(scores.loc[scores["metric"] == "f1_fitted", "split"]) == {"test"}


def test_files_give_the_same_and_are_read_back(
    arms: Arms, scores: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.testing.assert_frame_equal(_run(arms, out=tmp_path), scores, check_exact=True)
    assert not list(tmp_path.rglob("last.ckpt"))
    shutil.rmtree(tmp_path / "fits" / "plain-1")
    (tmp_path / "fits" / "real-0" / "predictions.npz").unlink()
    (tmp_path / "fits" / "real-1" / "last.ckpt").touch()  # of a run killed as the fit was done
    trained: list[str] = []
    fit = classify.train.fit

    def counted(*args: object, **options: object) -> object:
        trained.append(str(options["label"]))
        return fit(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(classify.study, "fit", counted)
    pd.testing.assert_frame_equal(_run(arms, out=tmp_path), scores, check_exact=True)
    assert trained == ["real, seed 0", "plain, seed 1"]
    assert not list(tmp_path.rglob("last.ckpt"))


def test_kept_predictions_give_the_scores_again(arms: Arms, tmp_path: Path) -> None:
    scores = _run(arms, out=tmp_path)
    predictions = read_predictions(tmp_path, list(arms), 2)
    thresholds = read_predictions(tmp_path, list(arms), 2, "val").best_thresholds()
    test = arms["real"].query("split == 'test'")
    np.testing.assert_array_equal(predictions.labels, test[NAMES])
    for arm, values in predictions.probabilities.items():
        for seed in range(2):
            given = (torch.from_numpy(values[seed]), torch.from_numpy(predictions.labels), NAMES)
            fitted = fitted_scores(*given, thresholds[arm][seed], split="test")
            again = pd.concat([attribute_scores(*given, split="test"), fitted])
            unit = (scores["arm"] == arm) & (scores["seed"] == seed) & (scores["split"] == "test")
            np.testing.assert_array_equal(again["value"], scores.loc[unit, "value"])


def test_another_study_is_refused_and_nothing_lost(arms: Arms, tmp_path: Path) -> None:
    first = _run(arms, seeds=1, out=tmp_path)
    other = FitConfig(architecture=CONFIG.architecture, epochs=2, batch_size=16, lr=1e-3, rounds=2)
    with pytest.raises(
        ValueError,
        match=r"real-0/unit.json is of other work: config.lr is 0.003 there and 0.001 now; give",
    ):
        _run(arms, seeds=1, config=other, out=tmp_path)
    flipped = {name: table.assign(red=1 - table["red"]) for name, table in arms.items()}
    with pytest.raises(ValueError, match="of other work: table is"):
        _run(flipped, seeds=1, out=tmp_path)
    pd.testing.assert_frame_equal(_run(arms, seeds=1, out=tmp_path), first, check_exact=True)


def _process(fabric: L.Fabric, arms: Arms, out: Path) -> None:
    torch.set_num_threads(1)
    scores = run_study(arms, NAMES, CONFIG, seeds=2, out=out, fabric=fabric)
    scores.to_pickle(out / f"rank-{fabric.global_rank}.pkl")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_two_processes_give_what_one_gives(
    arms: Arms, scores: pd.DataFrame, tmp_path: Path
) -> None:
    L.Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(
        _process,  # type: ignore[arg-type]
        arms,
        tmp_path,
    )
    for rank in range(2):
        gathered = pd.read_pickle(tmp_path / f"rank-{rank}.pkl")
        pd.testing.assert_frame_equal(gathered, scores, check_exact=True)


def test_what_another_process_was_to_do_is_done_where_it_has_died(
    arms: Arms, scores: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L.Fabric, "world_size", 2)  # of which the second never comes
    pd.testing.assert_frame_equal(_run(arms, out=tmp_path), scores, check_exact=True)
    assert not list(tmp_path.rglob(".lock"))


def _slow_first(fabric: L.Fabric, arms: Arms, out: Path) -> None:
    """The first process is busy for longer than the process group's timeout."""
    train, decode = classify.study.fit, classify.study.decode_tables

    def slow(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if fabric.global_rank == 0:
            time.sleep(4)
        return work(*args, **options)

    classify.study.fit = partial(slow, train)
    classify.study.decode_tables = partial(slow, decode)
    torch.set_num_threads(1)
    run_study(arms, NAMES, CONFIG, seeds=1, out=out, fabric=fabric, cache=out / "cache")
    (out / f"done-{fabric.global_rank}").touch()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_process_waits_for_another_beyond_the_timeout(arms: Arms, tmp_path: Path) -> None:
    strategy = DDPStrategy(
        start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=3)
    )
    L.Fabric(accelerator="cpu", devices=2, strategy=strategy).launch(
        _slow_first,  # type: ignore[arg-type]
        arms,
        tmp_path,
    )
    assert len(list(tmp_path.glob("done-*"))) == 2


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _cut_the_last_number(file: Path) -> None:
    file.write_text(file.read_text()[:-5])


def _drop_two_rows(file: Path) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("predictions.npz", _halve),
        ("val_predictions.npz", _halve),
        ("predictions.npz", lambda file: file.write_bytes(b"")),
        ("scores.csv", _cut_the_last_number),
        ("scores.csv", _drop_two_rows),
        ("finished.json", lambda file: file.write_text("{}")),
        ("finished.json", Path.unlink),
    ],
)
def test_a_damaged_result_is_made_again(
    finished: Path,
    arms: Arms,
    scores: pd.DataFrame,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    damage(out / "fits" / "real-0" / name)
    real = {"real": arms["real"]}
    expected = scores[(scores["arm"] == "real") & (scores["seed"] == 0)]
    again = _run(real, seeds=1, out=out)
    pd.testing.assert_frame_equal(again, expected.reset_index(drop=True), check_exact=True)
    read_predictions(out, ["real"], 1)
    assert "real-0 is not as the fit left it: it is made again" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", '{"config": ', "\0\1"])
def test_a_damaged_record_is_refused_by_name(
    finished: Path, arms: Arms, tmp_path: Path, content: str
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    (out / "fits" / "real-0" / "unit.json").write_text(content)
    with pytest.raises(ValueError, match=r"real-0/unit\.json is damaged; [^\n]*remove the folder"):
        _run({"real": arms["real"]}, seeds=1, out=out)


def test_a_folder_that_is_not_a_studys_is_refused(arms: Arms, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"/file is a file, where a folder has to be; give"):
        _run(arms, seeds=1, out=tmp_path / "file")
    (tmp_path / "fits" / "real-0").mkdir(parents=True)
    (tmp_path / "fits" / "real-0" / "thesis.pdf").touch()
    with pytest.raises(ValueError, match=r"real-0 holds thesis.pdf but no unit.json"):
        _run(arms, seeds=1, out=tmp_path)


def test_an_arm_whose_attribute_has_the_name_of_a_mean_is_refused(arms: Arms) -> None:
    table = arms["real"].rename(columns={"red": "macro"})
    with pytest.raises(ValueError, match="attribute 'macro' has the name of a mean"):
        run_study({"real": table}, ["macro", "green"], CONFIG, seeds=1)


def test_two_identical_arms_score_the_same(arms: Arms) -> None:
    pair = _run({"one": arms["plain"], "two": arms["plain"].copy()}, seeds=1)
    one, two = (pair.loc[pair["arm"] == arm, "value"].to_numpy() for arm in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_arms_take_the_steps_of_the_first(arms: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[object] = []

    def stop(*args: object, **options: object) -> None:
        steps.append(options["steps"])
        raise KeyboardInterrupt

    monkeypatch.setattr(classify.study, "fit", stop)
    for order in (arms, {"plain": arms["plain"], "real": arms["real"]}):
        with pytest.raises(KeyboardInterrupt):
            _run(order)
    assert steps == [2 * 2, 2 * 2]  # 32 real rows in both; synthetic ones do not count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {}, "no arm is given"),
        (lambda a: {"a/b": a["real"]}, "arm 'a/b' cannot name a folder"),
        (lambda a: {"real": a["real"].query("split != 'test'")}, "arm real has no test rows"),
        (lambda a: {"x": _with_synthetic_val(a["plain"])}, "synthetic rows in val"),
        (lambda a: {**a, "x": a["real"].iloc[1:]}, "real and x differ in val or test"),
        (lambda a: {**a, "x": a["real"].assign(red=1.0)}, "real and x differ in val or test"),
        (lambda a: {"x": a["real"].assign(red=0.0)}, "positive for red; .* leave it out"),
    ],
)  # fmt: skip
def test_arms_that_cannot_be_compared(arms: Arms, change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run(change(arms))  # type: ignore[operator]


def test_no_seeds_and_no_folder(arms: Arms) -> None:
    with pytest.raises(ValueError, match="seeds is 0; give"):
        _run(arms, seeds=0)
