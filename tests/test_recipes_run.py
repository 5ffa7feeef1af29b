"""A run's folder: taken by the first run, and refused to another or to the same one at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from augment import Quota
from recipes.chain.run import Run
from recipes.chain.settings import RunConfig

REPOSITORY = Path(__file__).parents[1]
TWO = {"Male=1": 3, "Bald=1": 2}


def _config(out: Path, **changes: object) -> RunConfig:
    return replace(RunConfig(out=out, devices=1), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"Male=1": 3}, r"quota\.wanted\.Bald=1 2, this one has quota\.wanted\.Bald=1 None"),
        ({}, r"quota\.wanted\.Bald=1 2, this one has"),
        (
            {"Male=1": 3, "Bald=1": 2, "Hat=1": 1},
            r"Hat=1 None, this one has quota\..*Hat=1 1",
        ),
    ],
)
def test_wishes_that_were_added_or_taken_away_are_named(
    tmp_path: Path, now: dict[str, int], message: str
) -> None:
    Run(_config(tmp_path / "out", quota=Quota(wanted=TWO))).claim()
    with pytest.raises(ValueError, match=message):
        Run(_config(tmp_path / "out", quota=Quota(wanted=now)))
    Run(_config(tmp_path / "out", quota=Quota(wanted=TWO)))


def test_a_run_of_a_version_with_fewer_settings_is_refused_in_one_line(tmp_path: Path) -> None:
    Run(_config(tmp_path / "out")).claim()
    file = tmp_path / "out" / "config.yaml"
    record = yaml.safe_load(file.read_text())
    del record["focus"]
    file.write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match=r"says nothing of focus, .*; give another --out$"):
        Run(_config(tmp_path / "out"))


def test_two_identical_runs_at_once_are_refused_in_one_line(tmp_path: Path) -> None:
    other = (
        "import sys, pathlib\n"
        "from recipes.chain.run import Run\n"
        "from recipes.chain.settings import RunConfig\n"
        "Run(RunConfig(out=pathlib.Path(sys.argv[1]), devices=1)).claim()\n"
    )
    mine = Run(_config(tmp_path / "out"))
    mine.claim()
    ended = subprocess.run(
        [sys.executable, "-c", other, str(tmp_path / "out")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "is in use by a run that is going on; wait for it" in ended.stderr
    del mine


def test_a_run_that_ended_leaves_its_folder_free(tmp_path: Path) -> None:
    for _ in range(2):
        run = Run(_config(tmp_path / "out"))
        run.claim()
        run.release()


@pytest.mark.parametrize("out", ["", "."])
def test_the_current_folder_is_no_folder_for_results(out: str) -> None:
    with pytest.raises(ValueError, match="the current folder; give a folder of its own"):
        RunConfig(out=Path(out))


def test_the_folder_of_the_data_is_no_folder_for_results(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the folder of the data, which stays as it is"):
        RunConfig(data=tmp_path, out=tmp_path / "x" / "..")


def test_what_it_says_is_kept_for_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(_config(tmp_path / "out"))
    with run.stage("Working"):
        run.note("A note.")
        run.caution("Beware.")
    assert capsys.readouterr().out == "Working ...\nA note.\ncaution: Beware.\n"
    assert run.notes[0] == "A note."
    assert run.notes[1].startswith("Working: 0 s")
    assert run.cautions == ["Beware."]
