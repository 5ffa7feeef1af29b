"""What `auto` means: of devices two processes of a command on a CPU of several cores, of precision
what the device is fast with.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from lightning.fabric import Fabric

from recipes.chain.command import devices
from recipes.chain.command.devices import chosen_precision, launch, processes, resolved_devices
from recipes.chain.command.stopping import signals_left_alone

COMMAND = str(Path(__file__).parents[1] / "recipes" / "celeba_augment.py")


@pytest.mark.parametrize(
    ("started", "cores", "accelerator", "asked", "expected"),
    [
        (COMMAND, 2, False, "auto", 2),
        (COMMAND, 64, False, "auto", 2),
        (COMMAND, 1, False, "auto", "auto"),
        (COMMAND, 2, True, "auto", "auto"),
        (COMMAND, 2, False, 1, 1),
        ("/usr/bin/pytest", 2, False, "auto", "auto"),
        ("", 2, False, "auto", "auto"),
    ],
)
def test_auto_is_two_processes_of_a_command_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
    started: str,
    cores: int,
    accelerator: bool,
    asked: int | str,
    expected: int | str,
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr("recipes.chain.command.devices.usable_cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerator)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert processes(asked) == expected


@pytest.mark.parametrize(
    ("asked", "processor", "expected"),
    [
        ("auto", {"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ("auto", {"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed"),
        ("auto", {"avx512_bf16": False, "avx2": True}, "32-true"),
        ("auto", {}, "32-true"),
        ("32-true", {"avx512_bf16": True}, "32-true"),
        ("bf16-mixed", {}, "bf16-mixed"),
    ],
)
def test_auto_is_bfloat16_on_a_processor_that_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
    asked: Literal["auto", "32-true", "bf16-mixed"],
    processor: dict[str, bool],
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert chosen_precision(asked) == expected


def test_auto_is_float32_where_torch_does_not_tell_of_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert chosen_precision("auto") == "32-true"


def test_a_processor_starts_a_process_a_core_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with pytest.raises(
        ValueError, match=r"devices is 5; this machine has .* for 4, so give at most 4"
    ):
        launch(5, accelerator="cpu")


_TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
}
_SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NAME": "study",
    "SLURM_JOB_ID": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
_SLURM_TASKS = {
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODELIST": "localhost",
    "SLURM_NODEID": "0",
}


@pytest.mark.parametrize("environment", [_TORCHRUN, _SLURM], ids=["torchrun", "slurm"])
def test_what_torchrun_and_slurm_have_started_need_not_be_told(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    assert resolved_devices("auto", 1) == ("auto", 1)
    assert resolved_devices(3, 2) == (3, 2)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [COMMAND])
    for asked in (processes("auto"), 2):
        assert resolved_devices(asked, 1) == resolved_devices(asked, 2) == (2, 2)
    with pytest.raises(ValueError, match="has started 2 processes on each of 2 machines; leave"):
        resolved_devices(3, 1)


def test_signals_that_are_ignored_stay_so_while_machines_are_waited_for() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_left_alone():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_machines_are_told_where_to_meet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Fabric, "launch", lambda _: None)
    monkeypatch.setenv("MASTER_PORT", "29501")
    with pytest.raises(
        ValueError, match="num_nodes is 2, and the environment lacks MASTER_ADDR, NODE_RANK"
    ):
        launch(1, num_nodes=2, accelerator="cpu")
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("NODE_RANK", "0")
    launch(1, num_nodes=2, accelerator="cpu")
    for name, bad, allowed in (("NODE_RANK", "2", "0 to 1"), ("MASTER_PORT", "a", "0 to 65535")):
        with monkeypatch.context() as changed:
            changed.setenv(name, bad)
            with pytest.raises(ValueError, match=f"{name} is {bad}; .* {allowed}"):
                launch(1, num_nodes=2, accelerator="cpu")
    assert capsys.readouterr().out == "Waiting for all of 2 machines at 10.0.0.1:29501 ...\n"


def test_a_further_process_of_a_command_ends_with_it() -> None:
    child = "import os, time; from recipes.chain.command.stopping import end_with; "
    child += "end_with(os.getppid()); print('there', flush=True); time.sleep(60); print('late')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline().strip() == b"there"
        started.kill()
        assert started.stdout.read() == b""  # which the child would keep open until it is late


@pytest.mark.parametrize(
    ("values", "parents"),
    [
        ({}, []),
        ({"LOCAL_RANK": "0"}, []),
        ({"LOCAL_RANK": "1"}, [7]),
        (_TORCHRUN | {"LOCAL_RANK": "1"}, []),
        (_SLURM | _SLURM_TASKS | {"LOCAL_RANK": "1"}, []),
    ],
)
def test_only_a_process_that_lightning_starts_ends_with_its_parent(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], parents: list[int]
) -> None:
    monkeypatch.setattr(Fabric, "launch", lambda _: None)
    watched: list[int] = []
    monkeypatch.setattr(devices, "end_with", watched.append)
    monkeypatch.setenv("MINORITY_AUGMENT_PARENT", "7")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    launch("auto", accelerator="cpu")
    assert watched == parents
    own = "7" if parents else str(os.getpid())
    assert os.environ["MINORITY_AUGMENT_PARENT"] == own
