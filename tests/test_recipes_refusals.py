"""Bad input to the recipe: one line that names it, and nothing written or changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from recipe_doubles import digests, save_folder, save_generator, tiny_flags

import recipes.chain.inputs
import recipes.chain.labels.labelers
from recipes.celeba_augment import main
from recipes.chain.command.command_line import run

REPOSITORY = Path(__file__).parents[1]
Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds good data and generators, and a number of bad ones."""
    root = tmp_path_factory.mktemp("refusals")
    save_generator(root / "generator")
    save_generator(root / "grey", channels=1)
    save_generator(root / "large", size=32)
    save_folder(root / "data")
    save_folder(root / "grey_data", mode="L")
    save_folder(root / "unknown", attributes=("Round", "Square"))
    (root / "empty").mkdir()
    (root / "file").write_text("not a folder")
    (root / "broken.yaml").write_text("sampler: [")
    (root / "unknown.yaml").write_text("sampler:\n  stepz: 3\n")
    return root


def _refusal(
    arguments: list[str], capfd: pytest.CaptureFixture[str], kept: Path, matching: str
) -> None:
    """Call the recipe; it must end with one line holding the text, and leave `kept` as it was."""
    before = digests(kept)
    capfd.readouterr()
    with pytest.raises(SystemExit, match=r"^error: ") as ended:
        run(lambda: main(arguments))
    message = str(ended.value)
    assert ended.value.code == 2
    assert "\n" not in message
    assert matching in message
    assert capfd.readouterr().err == f"{message}\n"
    assert digests(kept) == before


def _flags(root: Path, data: str = "data", generator: str = "generator") -> list[str]:
    return tiny_flags(root / data, root / generator, root / "out")


def _cell(column: str, row: int, value: object) -> Change:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


def _alike_in_test(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Every test row positive, in all attributes."""
    return {name: table[name].mask(table["split"] == "test", 1) for name in ("Male", "Smiling")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="split"), "lacks split"),
        (lambda t: t.drop(columns="file_name"), "lacks file_name"),
        (lambda t: t.drop(columns=["Male", "Smiling"]), "no attribute with a label"),
        (lambda t: t.assign(Male="", Smiling=""), "no attribute with a label"),
        (lambda t: t.assign(Male=0), "positive for Male"),
        (lambda t: t.assign(**_alike_in_test(t)), "(Male, Smiling) has both 1 and 0 in the test"),
        (lambda t: t.head(0), "has no rows"),
        (lambda t: t[t["split"] != "val"], "no val rows"),
        (lambda t: t[t["split"] == "train"], "no val and no test rows"),
        (_cell("file_name", 3, "../data/images/003.png"), "line 5"),
        (_cell("file_name", 3, "/images/003.png"), "leads out of the folder"),
        (_cell("file_name", 3, "images/999.png"), "images/999.png"),
        (_cell("Male", 3, "yes"), "'yes'"),
        (_cell("source", 25, "synthetic"), "images/025.png"),
        (_cell("source", 15, "synthetic"), "images/015.png"),
        (_cell("source", 2, "synthetic"), "give the real rows alone"),
    ],
)
def test_bad_table(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    table = change(pd.read_csv(data / "metadata.csv"))
    table.to_csv(data / "metadata.csv", index=False)
    flags = tiny_flags(data, root / "generator", tmp_path / "out")
    _refusal(flags, capfd, tmp_path, message)


@pytest.mark.parametrize("row", [0, 20])
@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_undecodable_image_is_named(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], row: int, content: bytes | None
) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    image = data / "images" / f"{row:03d}.png"
    image.write_bytes(image.read_bytes()[:60] if content is None else content)
    flags = tiny_flags(data, root / "generator", tmp_path / "out")
    _refusal(flags, capfd, tmp_path, str(image))


@pytest.mark.parametrize(
    ("data", "generator", "message"),
    [
        ("nowhere", "generator", "is not a folder"),
        ("file", "generator", "is not a folder"),
        ("empty", "generator", "is empty"),
        ("generator", "generator", "holds neither metadata.csv"),
        ("data", "nowhere", "nowhere"),
        ("data", "empty", "config.json is missing"),
        ("data", "data", "config.json is missing"),
        ("data", "grey", "makes grey images, the real ones are colour"),
        ("grey_data", "generator", "makes colour images, the real ones are grey"),
        ("data", "large", "32 px, the real ones have 20 px"),
    ],
)
def test_bad_source(
    root: Path, capfd: pytest.CaptureFixture[str], data: str, generator: str, message: str
) -> None:
    _refusal(_flags(root, data, generator), capfd, root, message)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--nonsense=1", "--nonsense"),
        ("--sampler.nonsense=1", "--sampler.nonsense"),
        ("stray", "stray"),
        ("--preset=tiny", "tiny"),
        ("--sampler.steps=few", "few"),
        ("--sampler.steps=0", "sampler.steps is 0"),
        ("--sampler.steps=51", "give 1 to 50 steps"),
        ("--sampler.batch_size=0", "sampler.batch_size is 0"),
        ("--guidance.distance=far", "far"),
        ("--guidance.scale=-1", "guidance.scale is -1"),
        ("--guidance.every=0", "guidance.every is 0"),
        ("--steering.every=0", "steering.every is 0"),
        ("--labels.wanted.precision=2", "wanted.precision is 2.0"),
        ("--guidance.perturb=1", "guidance.perturb is 1"),
        ("--num_synthetic=0", "num_synthetic is 0"),
        ("--num_synthetic=1e23", "--num_synthetic is 1e+23; give a whole number"),
        ("--num_synthetic=99999999999999999999999", "smaller images, or give an --out with more"),
        ("--image_size=4", "image_size is 4"),
        ("--image_size=10000", "train.batch_size is 4 with an image_size of 10000; give at most 2"),
        ("--image_size=1000000", "image_size is 1000000; give a whole number from 1 to 10,000"),
        ("--train.epochs=0", "train.epochs is 0"),
        ("--train.batch_size=1", "train.batch_size is 1"),
        ("--train.batch_size=1000000", "is 1000000 with an image_size of 32; give at most 262,144"),
        ("--train.epochs=99999999999999999999", "give a whole number from 1 to 1,000,000"),
        ("--train.lr=-1", "train.lr is -1"),
        ("--train.architecture=resnet19", "did you mean resnet"),
        ("--study.seeds=0", "study.seeds is 0"),
        ("--study.seeds=1000000000000", "study.seeds is 1000000000000; give at least 1"),
        ("--devices=1000", "devices is 1000; this machine has"),
        ("--devices=1000000000", "devices is 1000000000; this machine has"),
        ("--logger=os.system", "logger is os.system; give tensorboard, wandb, mlflow"),
        ("--data=a\x1b[31m", "a\N{REPLACEMENT CHARACTER}[31m is not a folder"),
        ("--devices=many", "devices is 'many'"),
        ("--devices=0", "devices=0"),
        ("--num_nodes=0", "num_nodes"),
        ("--precision=8", "precision"),
        ("--labeler=nobody", "'nobody'"),
        ("--judge=nobody", "'nobody'"),
        ("--num_real=13", "num_real is 13, and the data have 12 train rows"),
        ("--num_real=1", "num_real is 1; give at least 2"),
        ("--num_real=many", "--num_real is many; give a whole number, or leave it out"),
        ("--image_size=1e9", "--image_size is 1e9; give a whole number, or leave it out"),
        ("--num_val=7", "num_val is 7, and the data have 6 val rows"),
        ("--num_val=0", "num_val is 0; give at least 1"),
        ("--attributes=Nose", "lacks Nose"),
        ('--quota.wanted={"Male=1": 1, "Male=1,Nose=1": 2}', "no label of Nose"),
        ("--quota.ratio=0.08", "give at least 1/12"),
    ],
)
def test_bad_value(root: Path, capfd: pytest.CaptureFixture[str], flag: str, message: str) -> None:
    _refusal([*_flags(root), flag], capfd, root, message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.yaml", "absent.yaml"),
        ("broken.yaml", "is not a YAML file"),
        ("unknown.yaml", "stepz"),
    ],
)
def test_bad_config_file(
    root: Path, capfd: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    _refusal([f"--config={root / name}", *_flags(root)], capfd, root, message)


def test_a_labeler_that_knows_none_of_the_attributes(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _refusal([*_flags(root, "unknown"), "--labeler=avatars"], capfd, root, "knows none")


def test_a_missing_policy_is_found_before_the_labeler_is_trained(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [*_flags(root), "--labeler=train", f"--labels.policy={root / 'none.json'}"]
    _refusal(flags, capfd, root, "none.json is missing")


def test_a_distance_without_features_is_found_before_the_labeler_is_trained(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = ["--guidance.distance=features", "--arms", "real", "minority"]
    for labeler in ("[avatars, train]", "generator"):
        flags = [*_flags(root), *few, f"--labeler={labeler}"]
        _refusal(flags, capfd, root, "distance features needs one labeler")


def test_a_steered_set_is_refused_before_work_where_labelers_have_no_gradients(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "the set targeted is guided by the labeler avatars train, which has no gradients"
    flags = [*_flags(root), "--steering.by=labeler"]
    _refusal([*flags, "--labeler=[avatars, train]"], capfd, root, message)
    # As one of an .onnx file, which has no torch network.
    onnx = SimpleNamespace(attributes=["Male", "Smiling"])
    monkeypatch.setattr(recipes.chain.labels.labelers, "load_labeler", lambda source: onnx)
    message = "labeler a.onnx, which has no gradients; give steering.by generator, one labeler"
    _refusal([*flags, "--labeler=a.onnx"], capfd, root, message)
    unsure = [*_flags(root), "--labeler=a.onnx", "--arms", "real", "unsure"]
    _refusal(unsure, capfd, root, "which has no gradients; give one labeler")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ['--targets={"Nose=1": 4}'],
            "targets ask for Nose, which the labeler or the head",
        ),
        (['--targets={"Male": 4}'], "'Male' is not understood"),
        (['--targets={"Male=1": 0}'], "targets ask for 0 images of Male=1; give a whole number"),
        (["--targets=absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_targets(
    root: Path, capfd: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    _refusal([*_flags(root), *flags], capfd, root, message)


def test_a_manifold_without_features_is_found_before_the_labeler_is_trained(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_encoder(src: str) -> None:
        raise FileNotFoundError(f"{src} has no card")

    monkeypatch.setattr(recipes.chain.inputs, "load_encoder", load_encoder)
    flags = [*_flags(root), "--arms", "real", "minority", "--labeler=[avatars, train]"]
    message = "labeler avatars does not give (avatars has no card); name another"
    _refusal([*flags, "--admission.manifold=3"], capfd, root, message)


def test_a_wish_for_what_the_labeler_does_not_know_is_refused(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [*_flags(root), "--labeler=avatars", '--quota.wanted={"Hat=1": 2}']
    folder = root / "hats"
    shutil.copytree(root / "data", folder)
    table = pd.read_csv(folder / "metadata.csv")
    table.assign(Hat=table["Male"]).to_csv(folder / "metadata.csv", index=False)
    _refusal(
        [*flags, f"--data={folder}"], capfd, root, "no label of Hat; give one of Male, Smiling"
    )


def test_attribute_given_twice(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _refusal([*_flags(root), "--attributes", "Male", "Male"], capfd, root, "Male twice")


def test_out_that_is_the_generator(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _refusal([*_flags(root), f"--out={root / 'generator'}"], capfd, root, "of the generator, which")


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_out_that_is_a_file(root: Path, capfd: pytest.CaptureFixture[str], out: str) -> None:
    _refusal([*_flags(root), f"--out={root / out}"], capfd, root, "is a file")


def _claimed(root: Path, out: Path) -> list[str]:
    """The flags of a run of which `out` holds the settings, as after a kill; made by a real one."""
    flags = tiny_flags(root / "data", root / "generator", out)
    flags += ["--study.seeds=1", "--num_synthetic=2", "--arms", "real", "plain"]
    main(flags)
    return flags


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder that holds a run, and its flags."""
    out = tmp_path_factory.mktemp("finished") / "out"
    return out, _claimed(root, out)


@pytest.mark.parametrize(
    ("flag", "setting"),
    [
        ("--sampler.steps=4", "sampler.steps is 3 there and 4 now"),
        ("--guidance.scale=0.5", "guidance.scale is 1.0 there and 0.5 now"),
        ("--num_synthetic=3", "num_synthetic is 2 there and 3 now"),
        ("--train.lr=0.5", "train.lr is 0.004 there and 0.5 now"),
        ("--train.epochs=2", "train.epochs is 1 there and 2 now"),
        ("--skip_bad", "skip_bad is false there and true now"),
    ],
)
def test_folder_of_another_run(
    finished: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str], flag: str, setting: str
) -> None:
    out, flags = finished
    _refusal([*flags, flag], capfd, out, setting)


def test_embedded_data_are_not_drawn_into_another_run(
    finished: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    out, flags = finished
    embedded = [flag for flag in flags if not flag.startswith("--data")]
    _refusal(embedded, capfd, out, "there and null now")


@pytest.mark.parametrize("content", ["- a list\n", "half: [", ""])
def test_config_file_that_is_none_of_ours(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "config.yaml").write_text(content)
    flags = tiny_flags(root / "data", root / "generator", tmp_path)
    _refusal(flags, capfd, tmp_path, "give another --out")


@pytest.mark.parametrize("name", ["scores.csv", "report.html", "synthetic/plain/3.png"])
def test_files_of_the_user_are_not_overwritten(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    flags = tiny_flags(root / "data", root / "generator", tmp_path)
    with pytest.raises(SystemExit, match=rf"^error: .*{Path(name).name}"):
        run(lambda: main(flags))
    assert (tmp_path / name).read_text() == "mine"


def test_the_terminal_shows_just_the_line_where_the_system_has_no_module_resource(
    root: Path,
) -> None:
    """As on Windows, which has no `resource`."""
    script = str(REPOSITORY / "recipes" / "celeba_augment.py")
    start = (
        "import runpy, sys; sys.modules['resource'] = None; del sys.argv[0]; "
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", start, script, *_flags(root, "empty")],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: {root / 'empty'} is empty")
    assert ended.stderr.count("\n") == 1


def test_written_settings_name_every_flag(finished: tuple[Path, list[str]]) -> None:
    record = yaml.safe_load((finished[0] / "config.yaml").read_text())
    assert {"steps": 3, "batch_size": 2, "solver": "ancestral"}.items() <= record["sampler"].items()
    assert {"scale", "every", "budget", "perturb", "distance"} <= record["guidance"].keys()
    assert {"epochs", "batch_size", "lr"} <= record["train"].keys()
