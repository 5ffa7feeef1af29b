"""A text-to-image generator as the source of a study: prompts by attribute."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from latent_doubles import save_stable_diffusion
from recipe_doubles import save_folder, tiny_flags

from augment.noise import uniform_labels
from recipes.celeba_augment import main
from recipes.chain.labels.prompts import Prompts, load_with_prompts

PAGE = (Path(__file__).parents[1] / "recipes" / "HOSTS.md").read_text(encoding="utf-8")
(YAML,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^python recipes/celeba_augment.py .*$", PAGE, re.MULTILINE)


def test_a_template_and_wishes_make_prompts_in_order(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(YAML)
    prompts = Prompts.read(path)
    assert prompts.texts == [
        "a photograph of a man",
        "a photograph of a woman who smiles",
        "a photograph of a child who smiles",
    ]
    assert prompts.wishes == [{"Male": 1, "Smiling": 0}, {"Smiling": 1}, {"Smiling": 1}]
    drawn = uniform_labels(range(20), 3).tolist()
    plan = prompts.plan()
    assert [plan(seed) for seed in range(20)] == [prompts.wishes[k] for k in drawn]
    assert prompts.plan(2)(0) == {"Smiling": 1}
    assert len({plan.identity, prompts.plan(0).identity, prompts.plan(1).identity}) == 3


def test_a_negative_prompt_stands_beside_the_template_and_reaches_the_generator(
    tmp_path: Path,
) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text("template: a {} {}\nMale=1: man\nnegative_prompt: a drawing\n")
    prompts = Prompts.read(path)
    assert (prompts.texts, prompts.negative) == (["a man man"], "a drawing")
    save_stable_diffusion(tmp_path / "sd")
    read_as = load_with_prompts(str(tmp_path / "sd"), prompts).card["settings"]
    assert read_as["negative_prompt"] == "a drawing"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n \n", "has an empty prompt or none"),
        ("a.yaml", "Male=1: ''", "has an empty prompt or none"),
        ("a.yaml", "Male=1: a man\nnegative_prompt: 7", "has the negative_prompt 7; give a text"),
        ("a.yaml", "Male=1: {a: b}", "for Male=1; give a text"),
        (
            "a.yaml",
            "template: a face\nMale=1: a man",
            "has the template 'a face'; give a text with",
        ),
        ("a.yaml", "Male: a man", "Male"),
    ],
)
def test_files_that_are_no_prompts_are_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        Prompts.read(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_study_on_prompts_labels_by_them_and_tells_the_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_stable_diffusion(Path("sd-v1-5"))
    data, out = save_folder(Path("photos")), Path("runs/study")
    path = Path("prompts.yaml")
    path.write_text(YAML)
    _, script, *words = shlex.split(COMMAND)
    assert script == "recipes/celeba_augment.py"
    flags = [
        *(*words, *tiny_flags(data, Path("sd-v1-5"), out), "--labels.by_prompt", "--image_size=16"),
        *("--arms=[real, plain, minority]", "--controls=[]", "--study.seeds=1", "--allow_unlike"),
    ]
    main(flags)
    prompts = Prompts.read(path)
    for name in ("plain", "minority"):
        table = pd.read_csv(out / "synthetic" / name / "metadata.csv")
        for seed, label, male, smiling in zip(
            *(table[c] for c in ("seed", "class_label", "Male", "Smiling")), strict=True
        ):
            wish = prompts.wishes[label]
            assert label == int(uniform_labels([seed], 3)[0])
            assert smiling == wish["Smiling"]
            assert "Male" not in wish or male == wish["Male"]
    told = pd.read_csv(out / "targets.csv")
    assert set(told["arm"]) == {"plain", "minority"}
    assert set(zip(told["attribute"], told["value"], strict=True)) == {
        ("Male", 1),
        ("Smiling", 0),
        ("Smiling", 1),
    }
    other = Path("other.yaml")
    other.write_text("Bald=1: a bald man")
    with pytest.raises(ValueError, match="prompts name Bald"):
        main([*flags, f"--prompts={other}", "--out=no"])
