"""What `recipes/HOSTS.md` tells a user to type runs as it stands there; refusals are as it says."""

from __future__ import annotations

import importlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

import diffusers
import pandas as pd
import pytest
import torch
from adm_doubles import Adm, AdmUnet, randomised
from edm_doubles import network, save_pickle
from latent_doubles import save_dit, save_ldm, save_stable_diffusion, stable_scheduler
from recipe_doubles import save_generator

PAGE = (Path(__file__).parents[1] / "recipes" / "HOSTS.md").read_text(encoding="utf-8")
SMALL = ["--seeds=2", "--devices=1", "--accelerator=cpu"]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"  # diffusers' Euler schedulers
)


class _Unsafe:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def _run(line: str) -> None:
    interpreter, script, *words = shlex.split(line)
    name = Path(script).stem
    assert (interpreter, script) == ("python", f"recipes/{name}.py")
    small = SMALL if name == "generate" else []
    if name == "generate" and "2000" not in words and "4" not in words:
        small = [*small, "--sampler.steps=6"]
    importlib.import_module(f"recipes.{name}").main([*words, *small])


def test_every_command_runs_and_every_refusal_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adm = AdmUnet(Adm(order="legacy", head_channels=64, size=64))
    torch.save(randomised(adm).state_dict(), "adm-faces-64.pt")
    save_generator(Path("ddpm-celebahq-256"))
    save_ldm(Path("ldm-celebahq-256"))
    save_dit(Path("dit-xl-2-256"))
    save_stable_diffusion(Path("sd-v1-5"))
    few = stable_scheduler(diffusers.EulerDiscreteScheduler, timestep_spacing="trailing")
    save_stable_diffusion(Path("sdxl-lightning"), few, xl=True)
    save_pickle({"ema": network(adm=False)}, Path("edm-ffhq-64x64-uncond-vp.pkl"))
    save_pickle({"ema": _Unsafe()}, Path("unsafe.pkl"))
    (prompts,), (commands, _), (python,) = map(_blocks, ("text", "sh", "python"))
    Path("prompts.txt").write_text(prompts)

    for line in commands.splitlines():
        _run(line)
    exec(compile(python.replace("steps=50", "steps=2"), "HOSTS.md", "exec"), {})
    for name, size, classes in (
        ("adm", 2, None),
        ("ddpm", 2, None),
        ("ldm", 2, None),
        ("dit", 2, {207}),
        ("sd", 2, {0, 1}),
        ("xl", 2, {0, 1}),
        ("edm", 2, None),
        ("sd_decoded", 8, {0}),
    ):
        table = pd.read_csv(Path("runs") / name / "metadata.csv")
        assert (set(table["sampler"]), len(table)) == ({"self-guided"}, size)
        assert classes is None or set(table["class_label"]) <= classes

    refused = re.findall(r"^\| `(python .*)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(refused) == 10
    for line, answer in refused:
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(answer)) as refusal:
            _run(line)
        assert "\n" not in str(refusal.value)
    assert not Path("runs/no").exists()
    assert not Path("executed").exists()
