"""What people type instead of a flag or a name: what is meant is taken, or named in the refusal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from recipe_doubles import save_folder, save_generator

from augment import SamplerConfig, embedded_generators
from classify.datasets.avatars import ATTRIBUTES
from classify.names import closest, one_of
from recipes.celeba_augment import PRESETS
from recipes.chain.command.command_line import parse
from recipes.chain.command.written import are_pairs, dotted, resolved, shaped
from recipes.chain.settings.distances import DistanceName
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.generate import Settings as GenerateSettings
from recipes.train_generator import Settings as TrainGeneratorSettings

FLAGS = [f"--{name}" for name in dotted(RunConfig) if name not in NO_FLAGS]
ARMS = list(RunConfig(controls=["all"]).chosen_arms)
SOLVERS = get_args(get_type_hints(SamplerConfig)["solver"])
DISTANCES = get_args(DistanceName)

MISSPELT: list[tuple[str, str, Any]] = [
    # Letters that are transposed, missing, doubled or another, in flags.
    ("--guidence.scale", "--guidance.scale", FLAGS),
    ("--gudiance.scale", "--guidance.scale", FLAGS),
    ("--guidance.scael", "--guidance.scale", FLAGS),
    ("--guidance.pertub", "--guidance.perturb", FLAGS),
    ("--stearing.scale", "--steering.scale", FLAGS),
    ("--sampler.stesp", "--sampler.steps", FLAGS),
    ("--sampler.batchsize", "--sampler.batch_size", FLAGS),
    ("--trian.epochs", "--train.epochs", FLAGS),
    ("--train.architechture", "--train.architecture", FLAGS),
    ("--train.min_setps", "--train.min_steps", FLAGS),
    ("--num_sythetic", "--num_synthetic", FLAGS),
    ("--num_relas", "--num_real", FLAGS),
    ("--attribtues", "--attributes", FLAGS),
    ("--lableler", "--labeler", FLAGS),
    ("--genrator", "--generator", FLAGS),
    ("--quota.wnated", "--quota.wanted", FLAGS),
    ("--admission.manifolld", "--admission.manifold", FLAGS),
    ("--train.second_satge.share", "--train.second_stage.share", FLAGS),
    ("--train.augmentation.rotaton", "--train.augmentation.rotation", FLAGS),
    ("--presicion", "--precision", FLAGS),
    # Plural and singular, and other forms of a word.
    ("--study.seed", "--study.seeds", FLAGS),
    ("--target", "--targets", FLAGS),
    ("--arm", "--arms", FLAGS),
    ("--num_vals", "--num_val", FLAGS),
    ("--device", "--devices", FLAGS),
    ("--label.policy", "--labels.policy", FLAGS),
    ("--allow_leaks", "--allow_leak", FLAGS),
    ("--guidance.sample", "--guidance.samples", FLAGS),
    ("--train.augment.flip", "--train.augmentation.flip", FLAGS),
    ("--training.epochs", "--train.epochs", FLAGS),
    ("--defined_arms", "--define_arms", FLAGS),
    # British and American.
    ("--labeller", "--labeler", FLAGS),
    ("--train.optimiser", "--train.optimizer", FLAGS),
    # No separators, or others.
    ("--numreal", "--num_real", FLAGS),
    ("--guidance_scale", "--guidance.scale", FLAGS),
    ("--skipBad", "--skip_bad", FLAGS),
    ("--train/lr", "--train.lr", FLAGS),
    # Flags of other tools, and abbreviations.
    ("--output", "--out", FLAGS),
    ("--output_dir", "--out", FLAGS),
    ("--dataset", "--data", FLAGS),
    ("--seed", "--study.seeds", FLAGS),
    ("--num_inference_steps", "--sampler.steps", FLAGS),
    ("--guidance_strength", "--guidance.scale", FLAGS),
    ("--learning_rate", "--train.lr", FLAGS),
    ("--num_train_epochs", "--train.epochs", FLAGS),
    ("--arch", "--train.architecture", FLAGS),
    ("--img_size", "--image_size", FLAGS),
    ("--wd", "--train.weight_decay", FLAGS),
    ("--gpus", "--devices", FLAGS),
    # Attributes.
    ("bald", "Bald", ATTRIBUTES),
    ("Blad", "Bald", ATTRIBUTES),
    ("Smilling", "Smiling", ATTRIBUTES),
    ("Smile", "Smiling", ATTRIBUTES),
    ("Eyeglass", "Eyeglasses", ATTRIBUTES),
    ("Glasses", "Eyeglasses", ATTRIBUTES),
    ("Moustache", "Mustache", ATTRIBUTES),
    ("Grey_Hair", "Gray_Hair", ATTRIBUTES),
    ("Blonde_Hair", "Blond_Hair", ATTRIBUTES),
    ("wearing hat", "Wearing_Hat", ATTRIBUTES),
    ("Hat", "Wearing_Hat", ATTRIBUTES),
    ("Wearing_Neclace", "Wearing_Necklace", ATTRIBUTES),
    ("Men", "Male", ATTRIBUTES),
    # Sets, arms and controls.
    ("minorty", "minority", ARMS),
    ("tageted", "targeted", ARMS),
    ("plane", "plain", ARMS),
    ("over_sample", "oversample", ARMS),
    ("oversampling", "oversample", ARMS),
    ("randaugment", "rand_augment", ARMS),
    ("LDAM-DRW", "ldam_drw", ARMS),
    ("logit_adjustment", "logit_adjust", ARMS),
    ("crt", "retrain_head", ARMS),
    # Presets, solvers, distances and generators.
    ("papper", "paper", list(PRESETS)),
    ("demon", "demo", list(PRESETS)),
    ("ddmi", "ddim", SOLVERS),
    ("ancestoral", "ancestral", SOLVERS),
    ("dpm++", "dpm", SOLVERS),
    ("LPIPS", "lpips", DISTANCES),
    ("feature", "features", DISTANCES),
    ("avatar-32", "avatars-32", embedded_generators()),
    ("fashion_longtail_28", "fashion-longtail-28", embedded_generators()),
]
"""What is typed, what is meant, and the known names; those are among them of which spelling tells
nothing."""


def test_most_suggestions_are_what_was_meant_and_few_are_wrong() -> None:
    found = {typed: (closest(typed, known), meant) for typed, meant, known in MISSPELT}
    right = [typed for typed, (near, meant) in found.items() if near == [meant]]
    wrong = [typed for typed, (near, meant) in found.items() if near and meant not in near]
    assert len(found) == len(MISSPELT) >= 60
    assert len(right) >= RIGHT
    assert len(wrong) <= WRONG


RIGHT, WRONG = 68, 1
"""Of the suggestions above, as counted."""


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        *((word, FLAGS) for word in ("--nonsense", "--xyzzy", "--wandb", "--fp16", "--verbose")),
        *((word, FLAGS) for word in ("--resume", "--q", "--lora.rank", "--")),
        *((word, ATTRIBUTES) for word in ("Zebra", "Car", "Happy", "x", "")),
        *((word, ARMS) for word in ("nobody", "mixup", "focal", "everything")),
        *((word, list(PRESETS)) for word in ("large", "fast")),
        *((word, SOLVERS) for word in ("euler", "heun")),
        *((word, DISTANCES) for word in ("cosine", "far")),
    ],
)
def test_nothing_is_suggested_for_what_is_like_nothing(typed: str, known: list[str]) -> None:
    assert closest(typed, known) == []
    assert "did you mean" not in one_of(typed, known)


@pytest.mark.parametrize("name", [*FLAGS, *ATTRIBUTES, *ARMS, *SOLVERS, *DISTANCES])
def test_a_known_name_in_capitals_or_with_dashes_is_like_itself_most(name: str) -> None:
    known = next(k for k in (FLAGS, ATTRIBUTES, ARMS, SOLVERS, DISTANCES) if name in k)
    assert closest(name.upper().replace("_", "-"), list(known)) == [name]


def _parsed(*words: str) -> RunConfig:
    return parse(RunConfig, list(words), presets=PRESETS, skip=NO_FLAGS)


@pytest.mark.parametrize(
    ("words", "full"),
    [
        (["--seeds", "9"], ["--study.seeds=9"]),
        (["--steps=9"], ["--sampler.steps=9"]),
        (["--num-real", "50"], ["--num_real=50"]),
        (["--sampler.batch-size=3"], ["--sampler.batch_size", "3"]),
        (["--lr", "1e-3"], ["--train.lr=0.001"]),
        (["--loss.beta=0.9"], ["--train.loss.beta=0.9"]),
        (["--skip-bad", "--preview"], ["--skip_bad=true", "--preview=true"]),
        (["--quota.wanted", "Bald=1:20", "Male=0,Eyeglasses=1:50", "--seeds=2"],
         ['--quota.wanted={"Bald=1": 20, "Male=0,Eyeglasses=1": 50}', "--study.seeds=2"]),
        (["--quota.wanted=Bald=1:20"], ['--quota.wanted={"Bald=1": 20}']),
        (["--targets", "Bald=1:200"], ['--targets={"Bald=1": 200}']),
        (["--controls", "all"], ["--controls", *ARMS[4:]]),
    ],
)  # fmt: skip
def test_what_people_type_means_the_same(words: list[str], full: list[str]) -> None:
    assert _parsed(*words) == _parsed(*full) != _parsed()


@pytest.mark.parametrize(
    "written",
    [
        "controls: all\nseeds: 9\nquota: {wanted: [Bald=1:20, Male=1:5]}\n",
        "controls: [all]\nstudy.seeds: 9\nquota.wanted: Bald=1:20 Male=1:5\n",
        "controls:\n- all\nstudy: {seeds: 9}\nquota:\n  wanted:\n  - Bald=1: 20\n  - Male=1: 5\n",
        "controls: all\nstudy: {seeds: 9}\nquota:\n  wanted:\n    Bald=1: 20\n    Male=1: 5\n",
    ],
)
def test_yaml_may_be_written_as_the_command_line_is(tmp_path: Path, written: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(written)
    wanted = '--quota.wanted={"Bald=1": 20, "Male=1": 5}'
    assert _parsed(f"--config={file}") == _parsed("--controls=all", "--seeds=9", wanted)


def test_a_set_in_yaml_takes_pairs_and_one_name_where_a_list_is(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "sets: {bald: {steering: {}, targets: [Bald=1:3]}}\ndefine_arms: {both: {sets: bald}}\n"
    )
    config = _parsed(f"--config={file}")
    assert config.synthetic_sets["bald"].wishes == {"Bald=1": 3}
    assert list(config.chosen_arms["both"].sets) == ["bald"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--guidence.scale=2"], "--guidence.scale is not known; did you mean --guidance.scale?"),
        (["--study.seed", "2"], "--study.seed is not known; did you mean --study.seeds?"),
        (["--batch-size=3"], "may be --sampler.batch_size and --train.batch_size; write one of"),
        (["--foo"], "the flag --foo is not known; --help all shows every one"),
        (["--preset=papper"], "--preset is papper; did you mean paper? give one of demo, paper"),
        (["--solver=ddmi"], "--sampler.solver is ddmi; did you mean ddim? give one of ancestral"),
        (["--guidance.distance=lpip"], "--guidance.distance is lpip; did you mean lpips?"),
        (["--controls", "oversampling"], "controls name oversampling; did you mean oversample?"),
        (["--arms", "real", "minorty"], "arms name minorty; did you mean minority?"),
        (["--focus=targetd"], "focus is targetd; did you mean targeted?"),
        (["--generator=avatar-32"], "generator is avatar-32, no name, file or folder; did you"),
        (["--labeler", "avatar"], "labeler is avatar, no name, file or folder; did you mean av"),
        (["--quota.wanted", "Bald=1"], "--quota.wanted is Bald=1; give NAME:VALUE"),
        (["--quota.wanted", "Bald=1:2", "Bald=1:3"], "--quota.wanted has Bald=1 twice"),
        (["--targets", "Bald=1"], "targets is Bald=1; give a wish and how many images of it"),
    ],
)
def test_a_refusal_names_what_was_got_and_meant(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        _parsed(*words)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("smapler: {steps: 3}", "the setting smapler is not known; did you mean sampler?"),
        ("sampler: {stepz: 3}", "the setting sampler.stepz is not known; did you mean sampler.st"),
        ("preset: papper", "preset is papper; did you mean paper?"),
        ("batch_size: 3", "batch_size may be sampler.batch_size and train.batch_size"),
        ("sampler: 3", "sampler is 3; give a mapping"),
    ],
)
def test_a_refusal_of_yaml_names_the_file_too(tmp_path: Path, written: str, message: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(written)
    with pytest.raises(ValueError, match=r"settings\.yaml: ") as refused:
        _parsed(f"--config={file}")
    assert message in str(refused.value)


def test_a_recipe_keeps_its_own_flag_of_a_name() -> None:
    found = parse(GenerateSettings, ["avatars-32", "--seeds=3", "--steps", "7"])
    assert (found.seeds, found.sampler.steps) == (3, 7)
    ours = parse(TrainGeneratorSettings, ["folder", "--size", "32", "--batch-size=4"])
    assert (ours.network.size, ours.training.batch_size) == (32, 4)


def test_a_name_stands_for_the_one_that_ends_so() -> None:
    known = ["a", "b.a", "b.c", "b.d.e", "f.e"]
    names = [resolved(name, known, "it") for name in ("a", "c", "d.e", "b.c")]
    assert names == ["a", "b.c", "b.d.e", "b.c"]
    with pytest.raises(ValueError, match=r"^it e may be b\.d\.e and f\.e; write one"):
        resolved("e", known, "it")
    with pytest.raises(ValueError, match=r"^it b\.g is not known; give one of b\.a, b\.c$"):
        resolved("b.g", [*known[:3]], "it")


@pytest.mark.parametrize(
    ("hint", "value", "shape"),
    [
        (list[int], 3, [3]),
        (list[int] | None, None, None),
        (list[str] | str, "a", "a"),
        (tuple[str, ...], "a", ["a"]),
        (dict[str, int] | str, "C:\\sets.yaml", "C:\\sets.yaml"),
        (dict[str, int] | str, "auto", "auto"),
        (dict[str, int] | str, ["Bald=1:2", {"Male=1": 3}], {"Bald=1": 2, "Male=1": 3}),
        (dict[str, float], "a b:0.5 c:2", {"a b": 0.5, "c": 2}),
    ],
)
def test_values_get_the_form_of_their_type(hint: Any, value: Any, shape: Any) -> None:
    assert shaped(hint, value, "it") == shape


def test_pairs_are_told_from_paths_and_mappings() -> None:
    assert are_pairs(["Bald=1:20", "Male=0,Hat=1:3"])
    for word in ("C:/sets.yaml", "sets.yaml", "{a: 1}", "auto", "a:", ":1"):
        assert not are_pairs([word])


def test_a_folder_that_holds_it_one_level_down_is_found_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_generator(tmp_path / "gen" / "generator")
    save_folder(tmp_path / "run" / "data")
    found = _parsed(f"--generator={tmp_path / 'gen'}", f"--data={tmp_path / 'run'}")
    assert found.generator == str(tmp_path / "gen" / "generator")
    assert found.data == tmp_path / "run" / "data"
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"data is {found.data}, found in {tmp_path / 'run'}",
        f"generator is {found.generator}, found in {tmp_path / 'gen'}",
    ]
    _parsed(f"--generator={found.generator}", f"--data={found.data}")
    assert capsys.readouterr().out == ""
    save_generator(tmp_path / "gen" / "other")
    with pytest.raises(ValueError, match=r"which holds .*generator and .*other; give one of them"):
        _parsed(f"--generator={tmp_path / 'gen'}")
