"""The walkthrough of `recipes/OWN_DATA.md` runs as it stands there, on a tiny folder."""

from __future__ import annotations

import importlib
import re
import shlex
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from recipe_doubles import save_folder, save_generator

PAGE = (Path(__file__).parents[1] / "recipes" / "OWN_DATA.md").read_text(encoding="utf-8")
SAMPLER = ["--sampler.steps=2", "--devices=1"]
SMALL = {
    "celeba_augment": [
        *("--num_synthetic=6", "--arms=[real, targeted]", "--sampler.batch_size=6"),
        *("--train.epochs=1", "--train.min_steps=1", "--train.rounds=1", "--labels.trust=[all]"),
        *("--train.architecture=shufflenet_v2_x0_5", "--train.batch_size=4", *SAMPLER),
    ],
    "train_generator": ["--start=tiny", "--training.batch_size=2", "--devices=1"],
    "generate": ["--seeds=40", *SAMPLER],
    "measure": ["--cache=cache", "--devices=1"],
    "realism": ["--sizes=[32]", "--draws=1"],
    "label": ["--devices=1"],
}
"""What makes each command a matter of seconds; of a flag that is given twice, the last counts."""


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_python_yaml_and_commands_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_generator(Path("tiny"))
    folder = save_folder(Path("photos"), splits=("train",) * 150, size=32)
    table = pd.read_csv(folder / "metadata.csv")
    table.drop(columns=["split", "source"]).to_csv("labels.csv", index=False)

    (python,), (settings,), (commands,) = map(_blocks, ("python", "yaml", "sh"))
    exec(compile(python, "OWN_DATA.md", "exec"), {})
    Path("own.yaml").write_text(settings, encoding="utf-8")
    calls: Counter[str] = Counter()
    for line in commands.splitlines():
        interpreter, script, *words = shlex.split(line)
        name = Path(script).stem
        assert (interpreter, script) == ("python", f"recipes/{name}.py")
        calls[name] += 1
        steps = [f"--training.steps={calls[name]}"] if name == "train_generator" else []
        importlib.import_module(f"recipes.{name}").main([*words, *SMALL[name], *steps])
    assert sum(calls.values()) == 10
    assert Path("runs/look/preview.png").is_file()
    assert Path("runs/own/report.html").is_file()
    summary = pd.read_csv("runs/own/summary.csv")
    assert set(summary["n_seeds"]) == {5}  # the last command added three to the two before
