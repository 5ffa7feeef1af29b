"""What sampling costs: the procedures compared are what they claim, and the figures are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from augment_doubles import class_denoiser, tiny_denoiser, tiny_unet
from recipe_doubles import digests, save_generator
from torch import Tensor

import recipes.benchmark
from augment import L2, Denoiser, ImageFormat, Schedule, SelfGuidance, sample
from augment.denoiser import VarianceType
from labeling import Labeler, load_labeler, pseudo_label
from recipes.benchmark import Models, Procedure, batch, compared, main, table
from recipes.chain.benchmarks import benchmarking
from recipes.chain.benchmarks.bare_loops import LOOPS, Classified, bare_labels
from recipes.chain.benchmarks.costed_samplers import Sampler, official_sampler
from recipes.chain.command.command_line import run

GREEDY_MEGABYTES = 200


def _greedy(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """Takes a known amount of memory, and gives it back."""

    def images(seeds: Sequence[int], steps: int) -> Tensor:
        return torch.ones(GREEDY_MEGABYTES * 10**6, dtype=torch.uint8)[:1].clone()

    return images


GREEDY = Procedure(name="greedy", make=_greedy)


def _labeler() -> Labeler:
    labeler = load_labeler("avatars")
    assert isinstance(labeler, Labeler)
    return labeler


def _tiny_models() -> Models:
    return Models(tiny_denoiser(), {"l2": L2()}, _labeler())


def _flags(tmp_path: Path, *more: str) -> list[str]:
    generator = tmp_path / "generator"
    if not generator.exists():
        save_generator(generator)
    return [
        *(f"--generator={generator}", f"--out={tmp_path / 'out'}", "--distances", "l2"),
        *("--rates", "1", "3", "--steps=4", "--batch_size=2", "--repeats=2", *more),
    ]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own and fits take seconds each."""
    monkeypatch.setattr(recipes.benchmark, "peak_megabytes", lambda _: 7.0)
    monkeypatch.setattr(recipes.benchmark.Classified, "drawn", lambda *_: None)
    monkeypatch.setattr(recipes.benchmark, "LOOPS", {"labelling": (lambda _: 4, lambda _: 2)})


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small"])
def test_the_official_procedure_makes_our_images_at_a_higher_cost(variance: VarianceType) -> None:
    guidance = SelfGuidance(every=3, perturb=0.5)  # i = 9, 6, 3, 0
    official, ours = tiny_denoiser(variance), tiny_denoiser(variance)
    images = official_sampler(official, guidance)(range(3), 10)
    expected = sample(ours, range(3), steps=10, guidance=guidance)
    assert (images.int() - expected.int()).abs().max() <= 1
    assert not torch.equal(images, sample(tiny_denoiser(variance), range(3), steps=10))
    assert (official.network.forwards, official.network.backwards) == (10 + 2 * 4, 4)
    assert (ours.network.forwards, ours.network.backwards) == (10 + 4, 4)


def test_the_official_procedure_noises_to_the_same_step_where_the_product_falls_short() -> None:
    """100 * .29 is 28.999999999999996."""
    guidance = SelfGuidance(every=1, perturb=0.29, scale=20.0)
    images = official_sampler(tiny_denoiser(), guidance)(range(2), 100)
    expected = sample(tiny_denoiser(), range(2), steps=100, guidance=guidance)
    other = sample(tiny_denoiser(), range(2), steps=100, guidance=replace(guidance, perturb=0.28))
    assert (images.int() - expected.int()).abs().max() <= 1
    assert (images.int() - other.int()).abs().max() > 1


@pytest.mark.parametrize("loaded", [0, 30])
def test_on_a_gpu_the_loaded_models_are_no_part_of_the_memory(
    loaded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: loaded * 10**6)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 50 * 10**6)
    load = lambda: Models(OnGpu(), {}, None)  # type: ignore[arg-type]  # noqa: E731
    peak = benchmarking._peak_here(partial(batch, load, GREEDY, 2))
    assert peak == pytest.approx(50 - loaded)


def test_all_procedures_make_the_same_images_of_a_seed() -> None:
    denoiser = Denoiser(
        tiny_unet(3, 6),
        Schedule.cosine(),
        ImageFormat(channels=3, size=8),
        variance="learned_range",
    )
    plain, theirs, *guided = compared(["l2"], [1, 2])
    made = {
        p: p.on(Models(denoiser, {"l2": L2()}, _labeler()))(range(3), 10).int()
        for p in compared(["l2"], [1, 2])
    }
    assert torch.equal(made[plain], sample(denoiser, range(3), steps=10).int())
    # diffusers rounds where we truncate.
    assert 0 <= (made[theirs] - made[plain]).min() <= (made[theirs] - made[plain]).max() <= 1
    for ours, official in zip(guided[:2], guided[2:], strict=True):
        assert ours.every == official.every
        assert (made[ours] - made[official]).abs().max() <= 1
        assert not torch.equal(made[ours], made[plain])


@pytest.mark.parametrize(
    ("every", "ours", "official"),
    [
        (1, 3.056, 4.056),
        (2, 2.028, 2.528),
        (5, 1.4112, 1.6112),
        (20, 1 + 2.056 * 3 / 50, 1 + 3.056 * 3 / 50),  # 40, 20 and 0 of 50
    ],
)
def test_the_floor_counts_the_guided_steps(every: int, ours: float, official: float) -> None:
    plain, _, shared, rebuilt = compared(["l2"], [every])
    assert plain.floor(50) is None
    assert shared.floor(50) == pytest.approx(ours)
    assert rebuilt.floor(50) == pytest.approx(official)
    guided = sum(SelfGuidance(every=every).active(i, 50) for i in range(50))
    assert shared.floor(50) == pytest.approx(1 + 2.056 * guided / 50)


def test_memory_is_that_of_a_process_of_its_own() -> None:
    here = torch.ones(3 * GREEDY_MEGABYTES * 10**6, dtype=torch.uint8)  # Not the child's to tell.
    peak = benchmarking.peak_megabytes(partial(batch, _tiny_models, GREEDY, 2))
    if peak is None:
        pytest.skip("no /proc/self/status here")
    assert peak + 10 >= GREEDY_MEGABYTES
    assert peak < len(here) / 1e6


def test_the_bare_loops_do_the_same_work(tmp_path: Path) -> None:
    images = Classified.drawn(tmp_path / "avatars", 40, _labeler())
    ours = pseudo_label(images.train, images.labeler, images.labeler.attributes)
    found = torch.tensor(ours[list(images.labeler.attributes)].to_numpy() == 1)
    assert (bare_labels(images) == found).float().mean() > 0.999  # a rounding may cross a threshold
    counts = {name: [loop(images) for loop in pair] for name, pair in LOOPS.items()}
    assert counts == {"labelling": [40, 40], "training": [128, 128]}


@pytest.mark.usefixtures("quick")
def test_a_run_writes_json_and_prints_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = main(_flags(tmp_path))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["benchmark.json"]
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == result
    rows = result["rows"]
    assert [(row["name"], row["every"], row["beside"]) for row in rows] == [
        ("plain", None, "diffusers"),
        ("diffusers", None, None),
        *(("self-guided", 1, "plain"), ("self-guided", 3, "plain")),
        *(("official", 1, "plain"), ("official", 3, "plain")),
        ("labelling", None, "bare labelling"),
        ("bare labelling", None, None),
    ]
    for row in rows:
        speed = row["images_per_second"]
        assert 0 < speed["low"] <= speed["median"] <= speed["high"]
        assert (row["ratio"] is None) == (row["beside"] is None)
    text = capsys.readouterr().out.strip()
    assert text == table(result)
    lines = text.splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[0].endswith("median [range] of 2, wall time")
    assert "3.06" in lines[4]  # The floor of n = 1.


@pytest.mark.usefixtures("quick")
def test_speeds_are_of_images_and_ratios_of_the_same_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock by which every call takes 9 seconds at first, one in the second repeat, then two."""
    calls, now = iter(range(100)), 0.0

    def clock() -> float:
        nonlocal now
        if (call := next(calls)) % 2:
            now += (9, 1, 2)[call // 16]
        return now

    monkeypatch.setattr(recipes.benchmark.time, "process_time", clock)
    *samplers, ours, bare = main(_flags(tmp_path, "--clock=cpu"))["rows"]
    for row in samplers:
        assert row["images_per_second"] == {"median": 1.5, "low": 1.0, "high": 2.0}
        assert row["ratio"] in (None, {"median": 1.0, "low": 1.0, "high": 1.0})
    assert ours["images_per_second"]["high"] == 2 * bare["images_per_second"]["high"] == 4
    assert ours["ratio"] == {"median": 0.5, "low": 0.5, "high": 0.5}


@pytest.mark.usefixtures("quick")
def test_the_same_command_measures_anew_and_another_is_refused(tmp_path: Path) -> None:
    main(_flags(tmp_path))
    main(_flags(tmp_path))
    before = digests(tmp_path)
    with pytest.raises(ValueError, match=r"\(steps 4, and not 3\) was measured with other"):
        main(_flags(tmp_path, "--steps=3"))
    assert digests(tmp_path) == before
    (tmp_path / "out" / "benchmark.json").write_text("[]")
    with pytest.raises(ValueError, match="is no benchmark of this command"):
        main(_flags(tmp_path))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps=0"], "steps is 0; give at least 1"),
        (["--steps=51"], "steps is 51.*give 1 to 50 steps"),
        (["--repeats=0"], "repeats is 0"),
        (["--images=0"], "images is 0"),
        (["--rates", "2", "2"], r"rates are \[2, 2\]; give one or more, each once"),
        (["--rates", "0"], r"rates are \[0\]; give 1"),
        (["--distances", "taste"], "taste"),
        (["--clock=sun"], "sun"),
        (["--generator=nowhere"], "'nowhere'"),
        (["--labeler=nowhere"], "nowhere"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, flags: list[str], message: str) -> None:
    given = _flags(tmp_path)
    before = digests(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as ended:
        run(lambda: main([*given, *flags]))
    assert "\n" not in str(ended.value)
    assert digests(tmp_path) == before


@pytest.mark.usefixtures("quick")
def test_a_class_conditional_generator_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes.benchmark, "load_denoiser", lambda _: class_denoiser())
    with pytest.raises(ValueError, match=r"class-conditional.*unconditional ones can be compared"):
        main(_flags(tmp_path))
