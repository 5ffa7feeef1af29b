"""What a study of CelebA's size takes, tried before it is run: every stage but the sampling and the
last steps of the training.

    python recipes/rehearsal.py                                          # CelebA's size
    python recipes/rehearsal.py --images 5000 --generated 2000 --steps 20
    python recipes/rehearsal.py --preset demo --size 256 --images 20000 --generated 1000 --steps 6

A folder in CelebA's layout is drawn by code, and one for each synthetic set in place of what would
be sampled. On these the preset runs with the arms real, plain and minority, in one process, but
that each fit ends after `--steps` optimiser steps and one validation, that there is one seed, and
that the generator is a small one. By the paper's preset only the check for unreal images looks
through it; by the demo's the labeler does too, so that of a larger generator labelling takes longer
than is told. What is learned has no meaning.

Time, peak memory and disk are told by stage, with the targets that a stage misses, and estimated is
the whole: counted floating-point operations over those a second that the fits reached here, or over
`--gpu_flops`. No GPU is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch

from augment.initial import NetworkConfig
from augment.pretrained import save_pipeline
from augment.pretrained.guided_diffusion import known_network
from classify import FitConfig
from classify.datasets import load_table
from classify.datasets.drawn import Pool
from classify.files import write_text
from classify.networks import build
from recipes.celeba_augment import PRESETS
from recipes.chain.benchmarks.benchmarking import machine
from recipes.chain.benchmarks.crowd import Crowd, celeba_folder, image_folder, split_sizes
from recipes.chain.benchmarks.stages import Clock, MeasuredRun, Stages, Taken
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.files import check_folder
from recipes.chain.command.sources import TRAIN
from recipes.chain.inputs import prepare
from recipes.chain.measures.cost import flops
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.chain.study import study

_BACKWARD = 2
"""Passes forward that a backward pass to weights and input costs."""
_GUIDED = 2.056
"""Passes that a guided step adds, as `benchmark.py` counts them; LPIPS is not among them."""
_MOST_MEGABYTES, _MOST_SECONDS, _MOST_REPORT = 4000, 15 * 60, 10
_TRAINING = {"demo": ("training ",), "paper": ("training ", "getting the labeler ready")}
"""Stages that last as long as the steps they are given; the demo's labeler has none."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The size of the rehearsal."""

    preset: Literal["demo", "paper"] = "paper"
    """What is rehearsed."""
    images: int = 202_599
    """Real images, of which .80 train, .10 are val and .10 test, as in CelebA."""
    generated: int = 50_000
    """Images in each synthetic set."""
    steps: int = 200
    """Optimiser steps of each fit, a trained labeler's too."""
    distinct: int = 4000
    """Faces drawn, of which all real images are variations; as many others for the generated."""
    size: int = 64
    """Side of the images in pixels."""
    workers: int = 2
    """Processes that draw."""
    clock: Clock = "wall"
    """What the targets and the estimate are about; cpu is the process's own time, for a machine
    that is busy with something else."""
    gpu_flops: float = 6e13
    """Floating-point operations a second that one GPU is assumed to sustain: .4 of the 156e12 that
    an A100's data sheet gives for TF32."""
    out: Path = Path("runs/rehearsal")
    """Folder of the images, the study and rehearsal.json; drawn images are used again."""

    def __post_init__(self) -> None:
        least = {"images": 30, "generated": 1, "steps": 1, "distinct": 1, "size": 16, "workers": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {number}")
        if not self.gpu_flops > 0:
            raise ValueError(f"gpu_flops is {self.gpu_flops}; give a number above 0")


@dataclass(frozen=True, kw_only=True)
class FirstSteps(FitConfig):
    """A fit that ends early."""

    most: int
    """Optimiser steps at most."""

    def steps(self, n_real: int) -> int:
        return min(self.most, super().steps(n_real))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Draw, run, print the table and write it; what `rehearsal.json` holds."""
    settings = parse(Settings, arguments)
    check_folder(settings.out)
    settings.out.mkdir(parents=True, exist_ok=True)
    stages = Stages(settings.out)
    with stages.of("drawing"):
        draw(settings)
    config = rehearsed(settings)
    with MeasuredRun(shortened(config, settings.steps), stages) as this_run:
        inputs = prepare(this_run, lambda: load_table(settings.out / "celeba"), source="a crowd")
        study(inputs, "Rehearsal")
    report = (config.out / "report.html").stat().st_size / 1e6
    result = {
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "machine": machine("cpu", ("torch",)),
        "stages": {name: asdict(taken) for name, taken in stages.taken.items()},
        "report_megabytes": report,
        "whole": whole(config, settings, stages.taken),
        "missed": missed(stages.taken, report, settings.clock, settings.preset),
    }
    write_text(settings.out / "rehearsal.json", json.dumps(result, indent=2) + "\n")
    print(table(result))
    return result


def draw(settings: Settings) -> None:
    """Have the images and the generator that the study takes."""
    out, of = settings.out, {"distinct": settings.distinct, "size": settings.size}
    with ProcessPoolExecutor(settings.workers, mp_context=get_context("spawn")) as processes:
        real = Crowd(count=settings.images, pool=Pool.TRAIN, suffix=".jpg", **of)
        celeba_folder(out / "celeba", real, processes)
        for name, pool in (("plain", Pool.GENERATOR), ("minority", Pool.LABELER)):
            crowd = Crowd(count=settings.generated, pool=pool, suffix=".png", **of)
            image_folder(out / name, crowd, processes)
    if not (out / "generator" / "model_index.json").is_file():
        small = NetworkConfig(size=settings.size, widths=(8, 16, 32, 32), attention_levels=(3,))
        save_pipeline(small.build(), out / "generator", card={"data": "none, random weights"})


def rehearsed(settings: Settings) -> RunConfig:
    """The study of these images."""
    out = settings.out
    sets = {name: {"folder": str(out / name / "images")} for name in ("plain", "minority")}
    given = {"data": out / "celeba", "generator": out / "generator", "out": out / "study"}
    # Of a labeler that has hardly learned, and images that nothing sampled, nothing is refused.
    words = [f"--preset={settings.preset}", "--arms=[real, plain, minority]"]
    words += ["--allow_unlike=true", "--labels.trust=all", "--devices=1"]
    words += [f"--{name}={value}" for name, value in given.items()]
    config = parse(
        RunConfig, [*words, f"--sets={json.dumps(sets)}"], presets=PRESETS, skip=NO_FLAGS
    )
    return replace(config, num_synthetic=settings.generated)


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """With the first steps of each fit alone, one validation and one seed."""
    own = {field.name: getattr(config.train, field.name) for field in fields(FitConfig)}
    first = FirstSteps(**own | {"rounds": 1}, most=steps)
    return replace(config, train=first, study=replace(config.study, seeds=1))


def whole(
    config: RunConfig, settings: Settings, taken: Mapping[str, Taken]
) -> dict[str, dict[str, float]]:
    """Part of the whole study -> its floating-point operations, and the seconds that it takes on
    this machine and on one GPU; what is not counted (0) takes as long there as here.
    """
    arms = len(config.chosen_arms)
    fits, once = (
        arms * fit_flops(one.train, settings) for one in (config, shortened(config, settings.steps))
    )
    seconds = {name: one.by(settings.clock) for name, one in taken.items()}
    trained = sum(s for name, s in seconds.items() if name.startswith("training "))
    counted = sampling_flops(config, settings)
    if config.labeler == TRAIN:
        labeler = replace(config.train, architecture="resnet34")
        counted["training the labeler"] = fit_flops(labeler, settings)
    counted[f"training {arms * config.study.seeds} classifiers"] = config.study.seeds * fits
    other = sum(
        s for n, s in seconds.items() if not n.startswith((*_TRAINING[settings.preset], "drawing"))
    )
    rate = once / trained
    return {
        **{
            name: {"flops": work, "here": work / rate, "gpu": work / settings.gpu_flops}
            for name, work in counted.items()
        },
        "everything else": {"flops": 0, "here": other, "gpu": other},
    }


def sampling_flops(config: RunConfig, settings: Settings) -> dict[str, float]:
    """Of both sets, by the network for CelebA of the paper."""
    size, steps = settings.size, config.sampler.steps
    with torch.device("meta"):
        unet = known_network("celeba-64")
        step = flops(lambda: unet(torch.zeros(1, 3, size, size), torch.zeros(1)))
    guided = steps + _GUIDED * math.ceil(steps / config.guidance.every)
    return {
        f"sampling {settings.generated:,} {name} images": settings.generated * passes * step
        for name, passes in (("plain", steps), ("minority", guided))
    }


def fit_flops(fit: FitConfig, settings: Settings) -> float:
    """Of a fit on the real images, its validations included."""
    split = split_sizes(settings.images)
    with torch.device("meta"):
        network = build(fit.architecture, 40, settings.size)
        image = torch.zeros(1, 3, settings.size, settings.size)
        forward = flops(lambda: network.eval()(image))
    trained = fit.steps(split["train"]) * fit.batch_size * (1 + _BACKWARD)
    return forward * float(trained + fit.rounds * split["val"])


def missed(
    taken: Mapping[str, Taken], report: float, clock: Clock = "wall", preset: str = "paper"
) -> list[str]:
    """Which targets are missed, and by what."""
    slow = [
        f"{name} takes {one.by(clock) / 60:.0f} minutes, more than {_MOST_SECONDS // 60}"
        for name, one in taken.items()
        if one.by(clock) > _MOST_SECONDS and not name.startswith(_TRAINING[preset])
    ]
    large = [
        f"{name} takes {one.megabytes:,.0f} MB of memory, more than {_MOST_MEGABYTES:,}"
        for name, one in taken.items()
        if (one.megabytes or 0) > _MOST_MEGABYTES
    ]
    long = [f"the report has {report:.1f} MB, more than {_MOST_REPORT}"]
    return [*slow, *large, *(long if report > _MOST_REPORT else [])]


def table(result: Mapping[str, Any]) -> str:
    """The stages and the estimate as text."""
    settings, on = result["settings"], result["machine"]
    lines = [
        f"{settings['images']:,} real images, {settings['generated']:,} in each of two sets, "
        f"{settings['steps']} steps a fit; {on['threads']} threads of {on['cpus']} cores",
        f"{'stage':<44}{'seconds':>9}{'processor':>11}{'peak MB':>9}{'disk MB':>9}",
    ]
    for name, one in result["stages"].items():
        peak = "" if one["megabytes"] is None else f"{one['megabytes']:,.0f}"
        lines.append(
            f"{name:<44}{one['seconds']:>9,.1f}{one['processor']:>11,.1f}{peak:>9}"
            f"{one['disk'] / 1e6:>9,.1f}"
        )
    gpu = f"one GPU at {settings['gpu_flops']:.0e} FLOP/s"
    lines += ["", f"{'the whole, estimated, in hours':<44}{'FLOP':>9}{'here':>12}  {gpu}, not run"]
    lines += [
        f"{name:<44}{one['flops']:>9.1e}{one['here'] / 3600:>12,.1f}{one['gpu'] / 3600:>12,.2f}"
        for name, one in result["whole"].items()
    ]
    told = [f"missed: {one}" for one in result["missed"]] or ["every target is met"]
    return "\n".join([*lines, "", f"report: {result['report_megabytes']:.1f} MB", *told])


if __name__ == "__main__":
    run(main)
