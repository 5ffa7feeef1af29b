"""What `auto` means: two processes of a command on a CPU of several cores, one of anything else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from recipes.chain.devices import processes

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
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerator)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert processes(asked) == expected
