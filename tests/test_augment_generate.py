"""From seeds to files: names, table, records, resuming, refusing, and two processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from augment_doubles import TinyNetwork, class_denoiser, tiny_denoiser
from PIL import Image
from torch import Tensor

from augment import (
    DDIM,
    L2,
    LPIPS,
    Ancestral,
    Denoiser,
    DPMSolver2M,
    FeatureDistance,
    SamplerConfig,
    SelfGuidance,
    generate,
    sample,
)
from augment.generated_folder import _turns
from augment.sampler import class_labels
from augment.solvers import Solver
from augment.state_hash import state_sha256

SAMPLER = SamplerConfig(steps=4, batch_size=3)
GUIDANCE = SelfGuidance(scale=0.4, every=2)
TESTS = Path(__file__).parent


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.suffix == ".png")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _run(folder: Path, seeds: range = range(7), **changes: object) -> pd.DataFrame:
    options: dict[str, object] = {"sampler": SAMPLER, "guidance": GUIDANCE}
    return generate(tiny_denoiser(), seeds, folder, **options | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_named_by_seed_and_hold_the_samples(tmp_path: Path, channels: int) -> None:
    denoiser, seeds = tiny_denoiser(channels=channels), [3, 40, 1]
    generate(denoiser, seeds, tmp_path / "new", sampler=SAMPLER, guidance=GUIDANCE)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"3.png", "40.png", "1.png", "metadata.csv", "settings.json"}
    images = sample(denoiser, seeds, steps=4, guidance=GUIDANCE, batch_size=3)
    for seed, image in zip(seeds, images, strict=True):
        with Image.open(tmp_path / "new" / f"{seed}.png") as stored:
            pixels = np.asarray(stored).reshape(8, 8, channels)
        assert np.array_equal(pixels, image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("guidance", "name"), [(None, "ancestral"), (GUIDANCE, "self-guided")])
def test_the_table_has_a_synthetic_train_row_a_seed(
    tmp_path: Path, guidance: SelfGuidance | None, name: str
) -> None:
    table = _run(tmp_path, guidance=guidance)
    written = pd.read_csv(tmp_path / "metadata.csv")
    assert list(written) == ["file_name", "split", "source", "seed", "sampler"]
    assert list(table) == [*written, "path"]
    pd.testing.assert_frame_equal(table.drop(columns="path"), written)
    assert list(table["file_name"]) == [f"{seed}.png" for seed in range(7)]
    assert list(table["seed"]) == list(range(7))
    for column, value in {"split": "train", "source": "synthetic", "sampler": name}.items():
        assert set(table[column]) == {value}
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in table["path"])


def test_each_file_carries_its_seed_and_settings(tmp_path: Path) -> None:
    _run(tmp_path, settings={"scale": 0.4, "every": 2})
    with Image.open(tmp_path / "5.png") as image:
        image.load()
        chunks = {key: json.loads(value) for key, value in image.text.items()}  # type: ignore[attr-defined]
    hashes = {name: chunks.pop(name) for name in ("weights", "process")}
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes.values())
    assert chunks == {
        "seed": 5,
        "precision": "32-true",
        "image": [3, 8, 8],
        "steps": 4,
        "guidance": {"scale": 0.4, "every": 2},
    }
    record = json.loads((tmp_path / "settings.json").read_text())
    assert {"seed": 5, **record} == {**chunks, **hashes}


def test_a_run_taken_up_again_writes_the_same_bytes(tmp_path: Path) -> None:
    _run(tmp_path)
    whole = _hashes(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for name in ("1.png", "5.png", "metadata.csv"):
        (tmp_path / name).unlink()
    (tmp_path / "6.png").write_bytes((tmp_path / "6.png").read_bytes()[:-20])
    _run(tmp_path)
    assert _hashes(tmp_path) == whole
    assert len(pd.read_csv(tmp_path / "metadata.csv")) == 7
    for name in (
        "0.png",
        "2.png",
        "3.png",
        "4.png",
        "settings.json",
    ):  # Whole ones are not touched.
        assert (tmp_path / name).stat().st_mtime_ns == stamps[tmp_path / name]


def test_a_run_with_nothing_to_do_does_not_call_the_network(tmp_path: Path) -> None:
    denoiser = tiny_denoiser()
    for expected in (8, 8):  # Two blocks of four steps, then none.
        generate(denoiser, range(6), tmp_path, sampler=SAMPLER)
        assert denoiser.network.forwards == expected


def test_a_file_cut_anywhere_is_made_again(tmp_path: Path) -> None:
    sampler = SamplerConfig(steps=1, batch_size=1)
    generate(tiny_denoiser(), [0], tmp_path, sampler=sampler)
    whole = (tmp_path / "0.png").read_bytes()
    for length in (*range(0, len(whole), 20), *range(len(whole) - 12, len(whole))):
        (tmp_path / "0.png").write_bytes(whole[:length])
        generate(tiny_denoiser(), [0], tmp_path, sampler=sampler)
        assert (tmp_path / "0.png").read_bytes() == whole, f"cut at {length}"


def test_batch_size_may_change_when_taken_up_and_kept_files_stay(tmp_path: Path) -> None:
    _run(tmp_path)
    before = _hashes(tmp_path)
    with Image.open(tmp_path / "4.png") as image:
        pixels = np.asarray(image, dtype=int)
    (tmp_path / "4.png").unlink()
    _run(tmp_path, sampler=SamplerConfig(steps=4, batch_size=7))
    with Image.open(tmp_path / "4.png") as image:
        assert np.abs(np.asarray(image, dtype=int) - pixels).max() <= 2
    after = _hashes(tmp_path)
    assert {k: v for k, v in after.items() if k != "4.png"} == {
        k: v for k, v in before.items() if k != "4.png"
    }


def test_more_seeds_extend_the_folder_and_its_table_without_losing_added_columns(
    tmp_path: Path,
) -> None:
    _run(tmp_path, range(3))
    labelled = pd.read_csv(tmp_path / "metadata.csv").assign(Bald=[1, 0, 1])
    labelled.to_csv(tmp_path / "metadata.csv", index=False)
    first = _hashes(tmp_path)
    _run(tmp_path, range(6))
    written = pd.read_csv(tmp_path / "metadata.csv")
    assert list(written["seed"]) == list(range(6))
    assert written["Bald"].tolist()[:3] == [1, 0, 1]
    assert written["Bald"].isna().tolist() == [False] * 3 + [True] * 3
    assert first.items() <= _hashes(tmp_path).items()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sampler": SamplerConfig(steps=5, batch_size=3)}, "steps"),
        ({"guidance": None}, "guidance"),
        ({"guidance": SelfGuidance(scale=0.5, every=2)}, "guidance"),
        ({"settings": {"scale": 0.4}}, "guidance"),
        ({"sampler": SamplerConfig(steps=4, batch_size=3, solver="ddim")}, "solver"),
    ],
)
def test_a_folder_of_another_configuration_is_refused_and_left_alone(
    tmp_path: Path, change: dict[str, object], key: str
) -> None:
    _run(tmp_path)
    (tmp_path / "0.png").unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"holds results of another run \({key} ") as refusal:
        _run(tmp_path, **change)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith("give another folder")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_weights_are_refused(tmp_path: Path) -> None:
    for sha256 in ("a", "b"):
        denoiser = tiny_denoiser()
        denoiser.card["sha256"] = sha256
        if sha256 == "a":
            generate(denoiser, [0], tmp_path, sampler=SAMPLER)
    with pytest.raises(ValueError, match=r"another run \(weights a, now b\); give another folder$"):
        generate(denoiser, [0], tmp_path, sampler=SAMPLER)


@pytest.mark.parametrize("name", ["2.png", "metadata.csv"])
def test_files_that_stand_in_a_folder_of_no_run_are_not_taken_for_samples(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"{name} but no settings\.json.*give another folder$"):
        _run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("text", ["mine", "[1]", "3"])
def test_a_settings_file_of_someone_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"settings\.json is damaged or not a record; give another folder$"
    ):
        _run(tmp_path)
    assert (tmp_path / "settings.json").read_text() == text


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "0.png").write_bytes(b"mine too")
    _run(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "below" / "0.png").read_bytes() == b"mine too"
    left = {path.name for path in tmp_path.iterdir()} - set(_hashes(tmp_path))
    assert left == {"notes.txt", "below", "metadata.csv", "settings.json"}


def test_a_table_that_stands_there_already_is_kept(tmp_path: Path) -> None:
    _run(tmp_path)
    text = "file_name,note\n" + "".join(f'"{seed}.png","mine, 1.0"\n' for seed in range(7))
    (tmp_path / "metadata.csv").write_text(text)
    _run(tmp_path)
    assert (tmp_path / "metadata.csv").read_text() == text


def test_settings_with_tuples_and_numpy_seeds_are_taken_up_like_others(tmp_path: Path) -> None:
    for _ in range(2):
        table = generate(
            tiny_denoiser(),
            np.arange(2),  # type: ignore[arg-type]
            tmp_path,
            sampler=SAMPLER,
            guidance=GUIDANCE,
            settings={"layers": ("a", "b")},
        )
    assert list(table["seed"]) == [0, 1]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [([0, 1, 0], "seed 0 is given twice; give distinct"), ([3, -1], "seed -1 is negative; give")],
)
def test_seeds_that_name_no_file_of_their_own_are_refused(
    tmp_path: Path, seeds: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        generate(tiny_denoiser(), seeds, tmp_path / "new", sampler=SAMPLER)
    assert not (tmp_path / "new").exists()


def test_a_guidance_is_recorded_by_its_settings_not_by_its_address() -> None:
    """A memory address would refuse the next process' run."""
    assert repr(SelfGuidance(perturb=0.8)) == (
        "SelfGuidance(scale=0.4, every=5, perturb=0.8, distance=L2())"
    )
    relu = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    weights = state_sha256(relu.state_dict())[:16]
    known = f"FeatureDistance(Sequential, '{weights}', layers=['1'])"
    assert repr(FeatureDistance(relu, layers=["1"])) == known
    with torch.no_grad():
        relu[0].bias.add_(1)
    assert repr(FeatureDistance(relu, layers=["1"])) != known
    assert repr(L2()) == "L2()"
    assert LPIPS.__repr__ is not object.__repr__


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_a_sampler_setting_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^sampler\.{name} is 0; give at least 1$"):
        SamplerConfig(**{name: 0})


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, Ancestral()),
        ({"solver": "ddim"}, DDIM()),
        ({"solver": "ddim", "eta": 0.5}, DDIM(eta=0.5)),
        ({"solver": "dpm"}, DPMSolver2M()),
    ],
)
def test_the_solver_of_the_settings_makes_the_images_and_is_in_their_record(
    tmp_path: Path, settings: dict[str, object], rule: Solver
) -> None:
    sampler = SamplerConfig(steps=4, batch_size=2, **settings)  # type: ignore[arg-type]
    assert sampler.rule == rule
    table = generate(tiny_denoiser(), range(2), tmp_path, sampler=sampler)
    expected = sample(tiny_denoiser(), range(2), steps=4, solver=rule)
    for path, image in zip(table["path"], expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image.permute(1, 2, 0).numpy())
    assert set(table["sampler"]) == {settings.get("solver", "ancestral")}
    record = json.loads((tmp_path / "settings.json").read_text())
    assert record.get("solver") == (repr(rule) if settings else None)
    if settings:  # Nor is a folder of another solver taken up by the default.
        with pytest.raises(ValueError, match=r"another run \(solver "):
            generate(tiny_denoiser(), range(2), tmp_path, sampler=SamplerConfig(steps=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"solver": "euler"},
            r"^sampler\.solver is 'euler'; give ancestral ",
        ),
        ({"eta": 0.5}, r"^sampler\.eta is 0.5 with the solver ancestral; give 0 "),
        ({"eta": 1.5, "solver": "ddim"}, r"^sampler\.eta is 1.5 with the solver ddim; give 0 "),
    ],
)
def test_a_solver_that_does_not_exist_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**settings)  # type: ignore[arg-type]


def test_a_class_is_in_the_table_and_in_the_file(tmp_path: Path) -> None:
    sampler = SamplerConfig(steps=3, batch_size=2)
    table = generate(class_denoiser(), range(5), tmp_path / "own", sampler=sampler)
    expected = class_labels(class_denoiser(), range(5))
    assert expected is not None
    assert table["class_label"].tolist() == expected.tolist()
    assert pd.read_csv(tmp_path / "own" / "metadata.csv")["class_label"].equals(
        table["class_label"]
    )
    with Image.open(tmp_path / "own" / "3.png") as image:
        image.load()
        assert json.loads(image.text["class_label"]) == expected[3]  # type: ignore[attr-defined]
    asked = SamplerConfig(steps=3, batch_size=2, label=2)
    table = generate(class_denoiser(), range(5), tmp_path / "asked", sampler=asked)
    assert set(table["class_label"]) == {2}
    with pytest.raises(ValueError, match=r"another run \(label 2, now None\)"):
        generate(class_denoiser(), range(5), tmp_path / "asked", sampler=sampler)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (SamplerConfig(steps=1001), "give 1 to 1000 steps"),
        (SamplerConfig(steps=3, label=4), "4 .* 0 to 3"),
    ],
)
def test_what_the_model_does_not_have_is_refused_before_a_folder_is_made(
    tmp_path: Path, sampler: SamplerConfig, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(class_denoiser(), range(2), tmp_path / "new", sampler=sampler)
    assert not (tmp_path / "new").exists()


def test_steps_without_a_gradient_are_warned_of_once_and_counted_in_the_files(
    tmp_path: Path,
) -> None:
    """And a run taken up again writes the same bytes, counts included."""

    class SecondOfThree:
        """No gradient for the second image of each batch."""

        def __call__(self, a: Tensor, b: Tensor) -> Tensor:
            worth = torch.tensor([1.0, 0.0, 1.0])[: len(a)]
            return worth * (a - b).square().flatten(1).sum(dim=1)

        def __repr__(self) -> str:
            return "SecondOfThree()"

    guidance = SelfGuidance(every=2, distance=SecondOfThree())
    with pytest.warns(UserWarning, match="on 4 steps of images") as warned:  # i = 2, 0; seeds 1, 4
        _run(tmp_path, guidance=guidance)
    assert len(warned) == 1
    counts = {}
    for seed in range(7):
        with Image.open(tmp_path / f"{seed}.png") as image:
            image.load()
            counts[seed] = image.text.get("unguided_steps")  # type: ignore[attr-defined]
    assert counts == {seed: "2" if seed in (1, 4) else None for seed in range(7)}
    whole = _hashes(tmp_path)
    (tmp_path / "4.png").unlink()
    with pytest.warns(UserWarning, match="on 2 steps of images"):
        _run(tmp_path, guidance=guidance)
    assert _hashes(tmp_path) == whole
    _run(tmp_path, guidance=guidance)  # Nothing to do, nothing to warn of.


def test_a_compiled_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling changes the rounding alone, so the folder goes on with or without."""
    asked = []
    monkeypatch.setattr(
        sys.modules["augment.generate"],
        "optimised",
        lambda denoiser: asked.append(denoiser) or denoiser,
    )
    generate(tiny_denoiser(), range(2), tmp_path, sampler=SamplerConfig(steps=3, compile=True))
    assert len(asked) == 1
    generate(tiny_denoiser(), range(4), tmp_path, sampler=SamplerConfig(steps=3))
    assert len(asked) == 1


_TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from lightning.fabric import Fabric
from augment_doubles import TinyNetwork, class_denoiser, tiny_denoiser
from augment import SamplerConfig, SelfGuidance, generate

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
table = generate(
    tiny_denoiser(), range(7), Path(sys.argv[1]), sampler=SamplerConfig(steps=4, batch_size=3),
    guidance=SelfGuidance(scale=0.4, every=2), fabric=fabric,
)
assert fabric.world_size == 2 and len(table) == 7
"""


def test_two_processes_write_the_files_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_TWO_PROCESSES)
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "two")],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    _run(tmp_path / "one")
    assert _hashes(tmp_path / "two") == _hashes(tmp_path / "one")
    tables = [(tmp_path / name / "metadata.csv").read_bytes() for name in ("one", "two")]
    assert tables[0] == tables[1]
    assert not list((tmp_path / "two").glob(".*"))


def test_a_process_that_is_free_takes_the_next_block(tmp_path: Path) -> None:
    two = SimpleNamespace(world_size=2, broadcast=lambda _: ".taken-now")
    quick, slow = (_turns(tmp_path, two) for _ in range(2))
    blocks = [slice(i, i + 2) for i in range(0, 8, 2)]
    assert quick(blocks[0])
    assert [slow(block) for block in blocks[:2]] == [False, True]
    assert [quick(block) for block in blocks[1:]] == [False, True, True]
    assert not any(slow(block) for block in blocks[2:])


def test_other_weights_or_another_process_do_not_mix_with_what_stands(tmp_path: Path) -> None:
    _run(tmp_path, range(1))
    changed = tiny_denoiser()
    changed.clip = False
    with pytest.raises(ValueError, match=r"another run \(process"):
        generate(changed, range(2), tmp_path, sampler=SAMPLER, guidance=GUIDANCE)
    other = tiny_denoiser()
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    with pytest.raises(ValueError, match=r"another run \(weights"):
        generate(other, range(2), tmp_path, sampler=SAMPLER, guidance=GUIDANCE)
    assert not (tmp_path / "1.png").exists()


class _Overflowing(TinyNetwork):
    """A network that gives NaN for the images with these places in a batch."""

    def __init__(self, *places: int) -> None:
        super().__init__(3, 6)
        self.places = list(places)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output = super().forward(x, t).clone()
        output[self.places] = torch.nan
        return output


def _overflowing(*places: int) -> Denoiser:
    whole = tiny_denoiser()
    return Denoiser(
        _Overflowing(*places), whole.schedule, whole.image, variance=whole.variance, clip=False
    )


def test_an_image_that_is_not_finite_is_left_out_and_named(tmp_path: Path) -> None:
    """NaN became black pixels of a whole file."""
    for _ in range(2):  # A run taken up again says so again.
        with pytest.warns(UserWarning, match=r"^2 of 5 images .* not finite, the first of seed 1;"):
            table = generate(_overflowing(1), range(5), tmp_path, sampler=SAMPLER)
        assert table["seed"].tolist() == [0, 2, 3]
        assert list(_hashes(tmp_path)) == ["0.png", "2.png", "3.png"]
        assert pd.read_csv(tmp_path / "metadata.csv")["seed"].tolist() == [0, 2, 3]


def test_a_run_without_a_finite_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^3 of 3 images .*first of seed 4; .*another generator$"):
        generate(_overflowing(0, 1, 2), [4, 5, 6], tmp_path, sampler=SAMPLER)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_two_identical_runs_at_once_write_the_files_of_one(tmp_path: Path) -> None:
    class Meeting(TinyNetwork):
        """At its first step another run of the same command goes from start to end."""

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            if not self.forwards:
                generate(tiny_denoiser(), range(5), tmp_path / "two", sampler=SAMPLER)
            return super().forward(x, t)

    denoiser = tiny_denoiser()
    denoiser.network = Meeting(3, 6)
    generate(denoiser, range(5), tmp_path / "two", sampler=SAMPLER)
    generate(tiny_denoiser(), range(5), tmp_path / "one", sampler=SAMPLER)
    files = [{p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"', b"name\n0.png\n"])
def test_a_damaged_table_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    _run(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"metadata\.csv .*; repair it, or delete it and gen"
    ) as no:
        _run(tmp_path)
    assert "\n" not in str(no.value)
    assert (tmp_path / "metadata.csv").read_bytes() == content


def test_a_table_cut_off_anywhere_is_completed_or_named(tmp_path: Path) -> None:
    _run(tmp_path)
    whole = (tmp_path / "metadata.csv").read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(header, len(whole), 7):
        (tmp_path / "metadata.csv").write_bytes(whole[:length])
        if whole[:length].endswith(b"\n"):
            _run(tmp_path)
            assert (tmp_path / "metadata.csv").read_bytes() == whole
        else:
            with pytest.raises(ValueError, match=r"metadata\.csv is cut off; repair it, or delete"):
                _run(tmp_path)


@pytest.mark.parametrize("below", ["file", "file/x"])
def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"is a file or lies below one; give a folder$"):
        _run(tmp_path / below)
    assert (tmp_path / "file").read_text() == "mine"
