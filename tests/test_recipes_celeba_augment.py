"""The whole chain on tiny models: what it writes, how it continues, and in two processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from recipe_doubles import (
    digests,
    pythons_own_signals,
    save_celeba,
    save_folder,
    save_generator,
    tiny_flags,
)

import augment.generated_folder
import recipes.celeba_augment
from classify import load_table
from classify.datasets.avatars import ATTRIBUTES, avatar_table, log_probability
from classify.trainer import SaveState
from recipes.celeba_augment import PRESETS, main
from recipes.chain.command.command_line import parse, run
from recipes.chain.preview import timetable
from recipes.chain.settings.study import NO_FLAGS, RunConfig

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "recipes" / "celeba_augment.py"
METRICS = ["f1", "precision", "recall"]
SETS = ["plain", "minority", "targeted"]
ARMS = ["real", *SETS, "oversample"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a generator, a user's folder, and `out`, an uninterrupted run on them."""
    root = tmp_path_factory.mktemp("celeba_augment")
    save_generator(root / "generator")
    save_folder(root / "data")
    main(tiny_flags(root / "data", root / "generator", root / "out"))
    return root


def _flags(root: Path, out: Path) -> list[str]:
    return tiny_flags(root / "data", root / "generator", out)


def _parsed(*arguments: str) -> RunConfig:
    return parse(RunConfig, arguments, presets=PRESETS, skip=NO_FLAGS)


def _start(flags: list[str]) -> subprocess.Popen[str]:
    """The recipe as its user starts it, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *flags],
        # As many threads as here: they decide the order of sums, and so the last bits of a fit.
        env=os.environ
        | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_scores_are_tidy(root: Path) -> None:
    scores = pd.read_csv(root / "out" / "scores.csv")
    assert list(scores.columns) == ["arm", "seed", "split", "attribute", "metric", "value"]
    groups = {"arm": set(ARMS), "seed": {0, 1}, "split": {"val", "test"}}
    for column, values in groups.items():
        assert set(scores[column]) == values
    assert set(scores["attribute"]) == {"Male", "Smiling", "macro", "micro", "samples"}
    assert not scores.duplicated(["arm", "seed", "split", "attribute", "metric"]).any()


def test_summary_is_the_mean_of_the_macro_scores_on_test(root: Path) -> None:
    summary = pd.read_csv(root / "out" / "summary.csv")
    assert list(summary.columns) == ["arm", "metric", "mean", "low", "high", "n_seeds"]
    assert (summary["n_seeds"] == 2).all()
    scores = pd.read_csv(root / "out" / "scores.csv")
    judged = scores[(scores["split"] == "test") & (scores["attribute"] == "macro")]
    means = judged.groupby(["arm", "metric"])["value"].mean()
    by_arm = summary.set_index(["arm", "metric"])["mean"]
    for arm in ARMS:
        for metric in METRICS:
            assert by_arm[arm, metric] == pytest.approx(means[arm, metric], abs=1e-12)


@pytest.mark.parametrize(
    ("arm", "sampler"),
    [("plain", "ancestral"), ("minority", "self-guided"), ("targeted", "self-guided")],
)
def test_each_arm_is_a_folder_that_opens_as_a_table(root: Path, arm: str, sampler: str) -> None:
    folder = root / "out" / "synthetic" / arm
    table = load_table(folder)
    assert list(table["file_name"]) == [f"{seed}.png" for seed in range(6)]
    assert list(table["seed"]) == list(range(6))
    assert set(table["split"]) == {"train"}
    assert set(table["source"]) == {"synthetic"}
    assert set(table["sampler"]) == {sampler}
    assert table[["p_Male", "p_Smiling"]].to_numpy().min() >= 0
    assert set(np.unique(table[["Male", "Smiling"]])) <= {0.0, 1.0}
    with Image.open(folder / "0.png") as image:
        assert (image.mode, image.size) == ("RGB", (16, 16))


def test_arms_share_their_seeds_but_not_their_images(root: Path) -> None:
    images = [digests(root / "out" / "synthetic" / arm, "*.png") for arm in SETS]
    assert images[0].keys() == images[1].keys() == images[2].keys()
    for name in images[0]:
        assert len({one[name] for one in images}) == 3


@pytest.mark.parametrize("arm", SETS)
def test_each_arm_has_a_dataset_card_that_fits_its_files(root: Path, arm: str) -> None:
    folder = root / "out" / "synthetic" / arm
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "unknown"  # the generator's card states none
    assert ("minority" in fields["tags"]) == (arm != "plain")
    [config] = fields["configs"]
    [data] = config["data_files"]
    matched = {path.name for pattern in data["path"] for path in folder.glob(pattern)}
    table = pd.read_csv(folder / "metadata.csv")
    assert table.columns[0] == "file_name"
    assert matched == {*table["file_name"], "metadata.csv"}
    explained = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    own = {c for c in table if re.fullmatch("((p|target)_)?(Male|Smiling)", c)}
    assert explained == set(table) - own
    assert ("`target_<attribute>`" in text) == (arm == "targeted")


def test_other_tools_get_the_predictions_by_group(root: Path) -> None:
    folder = root / "out" / "audit"
    assert sorted(digests(folder)) == [
        f"{tool}-{arm}.csv.gz" for tool in ("aequitas", "fairlearn") for arm in ("real", "targeted")
    ]
    frame = pd.read_csv(folder / "fairlearn-real.csv.gz")
    judged = ["y_true", "y_pred", "score", "group"]
    assert list(frame) == ["attribute", "seed", "grouping", *judged]
    assert len(frame) == 2 * 8  # seeds, test images, of the attribute that does not group itself


def test_report_needs_nothing_from_outside(root: Path) -> None:
    page = (root / "out" / "report.html").read_text(encoding="utf-8")
    for link in re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page):
        assert link.startswith(("data:", "#"))
    assert not re.search(r"@import|url\((?!['\"]?(?:data:|#))", page)
    assert all(word in page for word in (*SETS, "Smiling", "random weights"))


def test_same_line_again_repairs_what_is_lost(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = _flags(root, out)
    main(flags)
    before = digests(out / "synthetic")
    assert before == digests(root / "out" / "synthetic")
    for lost in ("plain/3.png", "minority/0.png", "targeted/2.png", "targeted/metadata.csv"):
        (out / "synthetic" / lost).unlink()
    for lost in ("scores.csv", "report.html"):
        (out / lost).unlink()
    cut = out / "synthetic" / "plain" / "5.png"
    cut.write_bytes(cut.read_bytes()[:40])
    shutil.rmtree(out / "fits" / "targeted-1")
    capfd.readouterr()
    main(flags)
    assert digests(out / "synthetic") == before
    for name in ("scores.csv", "summary.csv"):
        assert (out / name).read_bytes() == (root / "out" / name).read_bytes()
    assert "Report: " in capfd.readouterr().out


def test_killed_while_generating_it_continues_to_the_same_bytes(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = _flags(root, out)
    process = _start(flags)
    first, deadline = out / "synthetic" / "plain" / "0.png", time.monotonic() + 300
    while not first.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < len(digests(out / "synthetic", "*.png")) < 18
    assert not (out / "scores.csv").exists()
    main(flags)
    images = digests(root / "out" / "synthetic", "*.png")
    assert digests(out / "synthetic", "*.png") == images
    assert (out / "scores.csv").read_bytes() == (root / "out" / "scores.csv").read_bytes()


@pytest.mark.parametrize(
    ("number", "owner", "step", "where"),
    [
        (signal.SIGINT, augment.generated_folder, "_save", "making the set plain"),
        (signal.SIGINT, SaveState, "on_train_epoch_end", "training real, seed 0"),
        (signal.SIGTERM, SaveState, "on_train_epoch_end", "training real, seed 0"),
    ],
)
def test_stopped_it_says_where_and_continues_to_the_same_bytes(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    owner: object,
    step: str,
    where: str,
) -> None:
    whole = getattr(owner, step)

    def stop(*args: object) -> object:
        result = whole(*args)
        os.kill(os.getpid(), number)
        return result

    flags = _flags(root, tmp_path / "out")
    with monkeypatch.context() as patched, pythons_own_signals():
        patched.setattr(owner, step, stop)
        with pytest.raises(SystemExit) as ended:
            run(lambda: main(flags))
    assert ended.value.code == 128 + number
    line = f"stopped by {number.name} while {where}; the same command continues\n"
    assert capfd.readouterr().err.replace("\r", "\n").endswith("\n" + line)
    assert not list((tmp_path / "out" / "fits").glob("*/finished.json"))
    main(flags)
    images = digests(root / "out" / "synthetic", "*.png")
    assert digests(tmp_path / "out" / "synthetic", "*.png") == images
    scores = (root / "out" / "scores.csv").read_bytes()
    assert (tmp_path / "out" / "scores.csv").read_bytes() == scores


def test_two_processes_make_the_files_of_one(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _start([*_flags(root, out), "--devices=2"])
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert printed.count("Report: ") == 1
    assert digests(out / "synthetic") == digests(root / "out" / "synthetic")
    for name in ("scores.csv", "summary.csv"):
        assert (out / name).read_bytes() == (root / "out" / name).read_bytes()


def test_its_own_config_file_is_the_same_run(root: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((root / "out" / "config.yaml").read_text())
    written = digests(root / "out", "*.png")
    stamps = {p: p.stat().st_mtime_ns for p in (root / "out").rglob("*.png")}
    main(["--config", str(root / "out" / "config.yaml")])
    assert digests(root / "out", "*.png") == written
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert _parsed("--config", str(root / "out" / "config.yaml")).record() == config


@pytest.mark.parametrize("labeler", ["generator", "avatars", "train"])
def test_preview_is_a_picture_and_no_run(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], labeler: str
) -> None:
    flags = [*_flags(root, tmp_path / "out"), f"--labeler={labeler}"]
    assert main([*flags, "--preview"]) is None
    assert list(digests(tmp_path / "out")) == ["preview.png"]
    with Image.open(tmp_path / "out" / "preview.png") as picture:
        assert picture.width == 4 * (4 * (4 * 17 + 1) + 24) - 24  # three sets beside real images
    printed = capfd.readouterr().out
    assert all(word in printed for word in ("memory", "disk", "training 10 classifiers"))


def test_the_parts_of_an_estimate_add_up_to_the_whole() -> None:
    told = timetable({"generating": 60, "training": 40}, processes=2)
    assert told == ["  generating  30 s", "  training  20 s", "  in all  50 s"]


@pytest.mark.parametrize("chosen", [[], ["--attributes", "Male", "Smiling", "Young"]])
def test_embedded_data_know_the_log_probability_of_whole_vectors(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[str]
) -> None:
    small = partial(avatar_table, train=300, val=20, test=20)
    monkeypatch.setattr(recipes.celeba_augment, "avatar_table", small)
    flags = [flag for flag in _flags(root, tmp_path / "out") if not flag.startswith("--data")]
    few = ["--study.seeds=1", "--train.batch_size=64", "--arms", "real", "plain"]
    few += ["--num_real=100", "--num_val=20"]
    summary = main([*flags, *chosen, *few])
    assert summary is not None
    assert (summary["n_seeds"] == 1).all()
    table = load_table(tmp_path / "out" / "data")
    assert len(table) == 340
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    vectors = table.loc[table["split"] == "test", list(ATTRIBUTES)].fillna(0).to_numpy(int)
    true_mean = f"{log_probability(vectors).mean():.2f}".replace("-", "−")
    assert (true_mean in page) == (not chosen)


def test_celeba_layout_through_the_whole_recipe_with_its_own_labeler(
    root: Path, tmp_path: Path
) -> None:
    data = save_celeba(tmp_path / "celeba", images=20)
    before = digests(data)
    flags = tiny_flags(data, root / "generator", tmp_path / "out")
    few = ["--study.seeds=1", "--arms", "real", "plain"]
    main([*flags, *few, "--labeler=train", "--image_size=24"])
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert set(scores["attribute"]) == {*ATTRIBUTES, "macro", "micro", "samples"}
    card = yaml.safe_load((tmp_path / "out" / "labeler" / "card.json").read_text())
    assert card["attributes"] == list(ATTRIBUTES)
    assert card["image_size"] == 24
    assert digests(data) == before


def test_celeba_layout_through_the_whole_default_recipe(root: Path, tmp_path: Path) -> None:
    data, out = save_celeba(tmp_path / "celeba", images=60), tmp_path / "out"
    main([*tiny_flags(data, root / "generator", out), "--study.seeds=1"])
    assert list(pd.read_csv(out / "scores.csv")["arm"].unique()) == ARMS
    card = json.loads((out / "labeler" / "card.json").read_text())
    assert card["architecture"] == "a linear head on DenoiserFeatures"
    assert card["attributes"] == list(ATTRIBUTES)
    targeted = pd.read_csv(out / "synthetic" / "targeted" / "metadata.csv")
    targets = targeted.filter(like="target_")
    assert targets.notna().any(axis=1).all()
    assert set(targets.columns) <= {f"target_{name}" for name in ATTRIBUTES}


def test_bad_images_are_left_out_when_asked_to(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    bad = data / "images" / "000.png"
    bad.write_bytes(bad.read_bytes()[:50])
    out = tmp_path / "out"
    few = ["--study.seeds=1", "--arms", "real", "plain"]
    assert main([*tiny_flags(data, root / "generator", out), *few, "--skip_bad"]) is not None


def test_paper_preset_is_the_papers() -> None:
    config = _parsed("--preset=paper")
    assert (config.sampler.steps, config.num_synthetic) == (250, 50_000)
    assert (config.guidance.scale, config.guidance.every) == (0.4, 5)
    assert config.guidance.distance == "lpips"
    train = config.train
    assert (train.architecture, train.optimizer, train.batch_size) == ("resnet18", "sgd", 256)
    assert (train.lr, train.momentum, train.weight_decay) == (0.1, 0.9, 1e-4)
    assert (train.decay, train.warmup) == ("exponential", 0)
    assert train.final_lr ** (1 / train.epochs) == pytest.approx(0.9)
    assert _parsed("--preset=paper", "--sampler.steps=9").sampler.steps == 9
