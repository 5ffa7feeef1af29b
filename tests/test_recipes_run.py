"""A run's folder: taken by the first run, and refused to another or to the same one at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from augment import Quota
from recipes.chain.command.stopping import Stopped
from recipes.chain.run import Run
from recipes.chain.settings.study import RunConfig, StudyConfig
from recipes.tune import TuneConfig

TWO = {"Male=1": 3, "Bald=1": 2}


def _config(out: Path, **changes: object) -> RunConfig:
    return replace(RunConfig(out=out, devices=1), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"Male=1": 3}, r"quota\.wanted\.Bald=1 is 2 there and null now"),
        ({}, r"quota\.wanted\.Bald=1 is 2 there and null now; give"),
        (
            {"Male=1": 3, "Bald=1": 2, "Hat=1": 1},
            r"Hat=1 is null there and 1 now",
        ),
    ],
)
def test_wishes_that_were_added_or_taken_away_are_named(
    tmp_path: Path, now: dict[str, int], message: str
) -> None:
    Run(_config(tmp_path / "out", quota=Quota(wanted=TWO))).claim()
    with pytest.raises(ValueError, match=message):
        Run(_config(tmp_path / "out", quota=Quota(wanted=now))).check_claim()
    Run(_config(tmp_path / "out", quota=Quota(wanted=TWO))).check_claim()


def test_all_differences_from_another_run_stand_in_one_line(tmp_path: Path) -> None:
    Run(_config(tmp_path / "out")).claim()
    other = _config(tmp_path / "out", num_synthetic=7, focus="plain", quota=Quota(cap=3))
    with pytest.raises(ValueError, match="holds another run: ") as refused:
        Run(other).check_claim()
    told = str(refused.value)
    assert "\n" not in told
    assert 'focus is "targeted" there and "plain" now' in told
    assert "num_synthetic is 400 there and 7 now" in told
    assert "quota.cap is null there and 3 now" in told


def test_more_seeds_continue_a_run_and_fewer_are_another_one(tmp_path: Path) -> None:
    for seeds in (2, 3, 3):
        with Run(_config(tmp_path, study=StudyConfig(seeds=seeds))) as run:
            run.claim()
        assert yaml.safe_load((tmp_path / "config.yaml").read_text())["study"]["seeds"] == seeds
    with pytest.raises(ValueError, match=r"study\.seeds is 3 there and 2 now; give another --out"):
        Run(_config(tmp_path, study=StudyConfig(seeds=2))).check_claim()
    more = TuneConfig(out=tmp_path / "tune", study=StudyConfig(seeds=4))
    with Run(replace(more, study=StudyConfig(seeds=2))) as search:
        search.claim()
    with pytest.raises(ValueError, match="study\\.seeds is 2 there and 4 now"):
        Run(more).check_claim()


def test_a_run_of_a_version_with_fewer_settings_is_refused_in_one_line(tmp_path: Path) -> None:
    Run(_config(tmp_path / "out")).claim()
    file = tmp_path / "out" / "config.yaml"
    record = yaml.safe_load(file.read_text())
    del record["focus"]
    file.write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match=r"says nothing of focus, .*; give another --out$"):
        Run(_config(tmp_path / "out")).check_claim()


@pytest.mark.parametrize("study", ["seeds", None, {}, {"seeds": "many"}])
def test_a_record_that_was_cut_short_is_another_runs(tmp_path: Path, study: object) -> None:
    run = Run(_config(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    record = yaml.safe_dump(run.config.record() | {"study": study})
    (tmp_path / "out" / "config.yaml").write_text(record)
    with pytest.raises(ValueError, match=r"holds another run: study.*; give another --out"):
        run.check_claim()


def test_two_identical_runs_at_once_are_refused_in_one_line(tmp_path: Path) -> None:
    """The other run is a process that takes the lock as a run does, and none of the rest."""
    with Run(_config(tmp_path / "out")) as run:
        run.claim()
    lock = tmp_path / "out" / ".lock"
    assert lock.exists()
    other = (
        f"import filelock; lock = filelock.FileLock({str(lock)!r}); lock.acquire(timeout=0)\n"
        "print('taken', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        with (
            Run(_config(tmp_path / "out")) as run,
            pytest.raises(ValueError, match="is in use by a run that is going on; wait for it"),
        ):
            run.claim()
        process.communicate("")


def test_two_runs_of_one_process_do_not_share_a_folder_either(tmp_path: Path) -> None:
    with Run(_config(tmp_path / "out")) as first, Run(_config(tmp_path / "out")) as second:
        first.claim()
        with pytest.raises(ValueError, match="is in use by a run that is going on; wait for it"):
            second.claim()


@pytest.mark.parametrize("was_held", [True, False])
def test_what_a_killed_run_had_half_written_is_removed(tmp_path: Path, was_held: bool) -> None:
    """And nothing where no run was."""
    left = {
        ".config.yaml.12.tmp",
        "labeler/.head.12-0123abcd.safetensors",
        "cache/.images-0123456789abcdef-a_b1c2d3/pixels.npy",
    }
    kept = {".gitignore", "cache/.cache.1", "fits/.notes.txt"}
    for name in left | kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if was_held:
        (tmp_path / ".lock").touch()
    with Run(_config(tmp_path)) as run:
        run.hold()
        run.claim()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, *(() if was_held else left), ".lock", "config.yaml"}


def test_a_run_that_ended_or_failed_leaves_its_folder_free(tmp_path: Path) -> None:
    """Even while somebody still holds the exception, as a notebook does."""

    def fail() -> None:
        with Run(_config(tmp_path / "out")) as run:
            run.claim()
            raise KeyError

    with pytest.raises(KeyError) as first:
        fail()
    with pytest.raises(KeyError):
        fail()
    assert first.value.__traceback__


def test_a_run_that_is_stopped_ends_the_processes_it_started(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run = Run(_config(tmp_path / "out"))
    run.fabric = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[other]))
    )

    def stop() -> None:
        with run:
            raise Stopped(signal.SIGTERM)

    with other, pytest.raises(Stopped):
        stop()
    assert other.returncode


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
