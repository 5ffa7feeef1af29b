"""The parts of a diffusers folder: a JSON file, a network with all its weights, a scheduler.

Weights are safetensors, or a pickle read with `weights_only`; nothing loaded is executed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from augment.files import one_line
from augment.schedule import Schedule, Spacing

__all__ = [
    "check_scheduler",
    "load_network",
    "load_part",
    "noise_schedule",
    "parts_of",
    "read_files",
    "read_json",
    "sampling_schedule",
    "variant_of",
    "weights_file",
]

_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    # "learned" is a variance without range.
    "variance_type": (
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
        "learned_range",
        None,
    ),
    "rescale_betas_zero_snr": (False, None),  # its last step leaves no signal to predict from
    "thresholding": (False, None),
    "clip_sample_range": (1.0,),
}
"""What a scheduler's configuration may say, where it says anything."""

_NOISE_ALONE = (
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
)
"""Schedulers whose init_noise_sigma is the largest sigma, unless their spacing is leading."""

_MOST_STEPS = 100_000
"""Training steps of a schedule, a hundred times as many as is usual."""

_MOST_LAYERS = 64
"""Residual blocks per level, eight times as many as in any network that is known."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a diffusers folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; a diffusers folder has unet/config.json and "
            "scheduler/scheduler_config.json, or both files side by side; copy it there"
        )
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON; give the folder as it was saved") from error


def parts_of(index: Mapping[str, Any]) -> dict[str, str]:
    """The parts that a model_index.json names, and their classes; [null, null] is none."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list)}
    return {
        name: value[1]
        for name, value in pairs.items()
        if len(value) == 2 and all(isinstance(word, str) for word in value)
    }


def weights_file(folder: Path) -> Path:
    """The weights of a network on pixels.

    Raises:
        FileNotFoundError: there are none.
    """
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no weights; copy {names[0]} or {names[1]} there")


def load_part(folder: Path, *kinds: Any) -> Any:
    """A network of a latent model, in float32, from safetensors alone.

    Args:
        folder: with config.json.
        kinds: the classes of diffusers that it may be of.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a network of another class, or weights that are not whole.
    """
    found = read_json(folder / "config.json").get("_class_name")
    of = {kind.__name__: kind for kind in kinds}
    if found not in of:
        raise ValueError(f"{folder} holds a {found}; give a model with a {' or a '.join(of)}")
    return load_network(folder, of[found], use_safetensors=True, variant=variant_of(folder))


def variant_of(folder: Path) -> str | None:
    """fp16 where a folder has safetensors of that alone, which the hub calls a variant.

    Raises:
        FileNotFoundError: it has no safetensors at all.
    """
    names = [path.name for path in folder.glob("*.safetensors")]
    if not names:
        raise FileNotFoundError(
            f"{folder} has no safetensors, and pickles of latent models are not read; save the "
            "model with save_pretrained, which writes them, and give that folder"
        )
    return "fp16" if all(".fp16" in name for name in names) else None


def read_files(folder: Path) -> list[Path]:
    """The safetensors of a latent model's part that are read, whole or in shards, and of no other
    variant.

    Raises:
        FileNotFoundError: it has no safetensors at all.
    """
    variant = variant_of(folder)
    return [
        path
        for path in folder.glob("*model*.safetensors")
        if "." not in path.stem.replace(f".{variant}", "")
    ]


def load_network(folder: Path, kind: Any, **options: Any) -> Any:
    """A network of a class of diffusers, every weight of which was found in its folder.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    try:
        _check_size(folder, kind)
        network, report = kind.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            **options,
        )
        # diffusers fills a missing tensor with random numbers and only logs it.
        for name in ("missing_keys", "unexpected_keys"):
            if names := sorted(report[name]):
                raise ValueError(f"{len(names)} {name.replace('_', ' ')}, the first {names[0]}")
    except Exception as error:  # A configuration can be wrong in as many ways as it has values.
        raise ValueError(
            f"the weights in {folder} do not fit its config.json ({one_line(error)}); "
            "give the folder as it was saved"
        ) from error
    return network


def _check_size(folder: Path, kind: Any) -> None:
    """Refuse a network that its files have too few bytes for, before memory is taken for it."""
    config = read_json(folder / "config.json")
    for name in ("layers_per_block", "num_layers"):
        layers = config.get(name, 1)
        if type(layers) is not int or not 0 < layers <= _MOST_LAYERS:
            raise ValueError(f"{name} is {layers!r}, not 1 to {_MOST_LAYERS}")
    with torch.device("meta"):
        described = kind.from_config(config)
    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    numbers = sum(tensor.numel() for tensor in described.state_dict().values())
    size = sum(path.stat().st_size for path in files)
    if 2 * numbers > size:  # two bytes each in half precision
        names = ", ".join(path.name for path in files)
        raise ValueError(f"it describes {numbers:,} numbers, {names} has {size:,} bytes")


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Refuse what this sampler would run wrongly."""
    allowed = dict(_ALLOWED)
    if not config.get("clip_sample", True):
        del allowed["clip_sample_range"]
    if config.get("trained_betas") is not None:
        del allowed["beta_schedule"]
    elif "beta_schedule" not in config:
        raise ValueError(
            f"the scheduler {config.get('_class_name', 'without a name')} has no beta_schedule, so "
            "none of the noise this sampler removes; give a model with one that has, as "
            "DDPMScheduler"
        )
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise ValueError(
                f"the scheduler has {name} {json.dumps(config[name])}; give a model with "
                f"{' or '.join(json.dumps(value) for value in values)}"
            )


def noise_schedule(config: Mapping[str, Any]) -> Schedule:
    """The scheduler's betas in float64; diffusers keeps them in float32."""
    steps, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule")
    bounds = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    try:
        if (betas := config.get("trained_betas")) is not None:
            return Schedule.from_betas(np.asarray(betas, dtype=np.float64))
        if type(steps) is not int or not 1 < steps <= _MOST_STEPS:
            raise ValueError(f"of {steps!r} steps")
        if name == "squaredcos_cap_v2":
            return Schedule.cosine(steps)
        first, last = (max(float(bound), 0.0) for bound in bounds)  # of which there are roots
        make = Schedule.linear if name == "linear" else Schedule.scaled_linear
        return make(steps, first, last)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the betas of the scheduler make no schedule ({one_line(error)}); allowed are 2 to "
            f"{_MOST_STEPS} (num_train_timesteps), all within (0, 1) (trained_betas, or beta_start "
            "and beta_end); give the folder as it was saved"
        ) from error


def sampling_schedule(config: Mapping[str, Any]) -> tuple[Schedule, dict[str, Any]]:
    """The schedule of a latent model as its scheduler samples it, and the scheduler's settings.

    What the file leaves out has the default of the scheduler's class. Of the solver nothing is
    taken: that is the run's.

    Raises:
        ValueError: a scheduler that this sampler would run wrongly.
    """
    name = str(config.get("_class_name"))
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if not isinstance(kind, type):
        raise ValueError(f"the scheduler is a {name}; give a model with one of diffusers' own")
    defaults = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    settings = {p.name: p.default for p in defaults if p.default is not p.empty} | dict(config)
    check_scheduler(settings)
    schedule = noise_schedule(settings)
    rule = settings.get("timestep_spacing", "leading")
    if rule not in ("linspace", "leading", "trailing"):
        raise ValueError(
            f"the scheduler has timestep_spacing {json.dumps(rule)}; give a model with "
            "linspace, leading or trailing"
        )
    whole = settings.get("set_alpha_to_one", True)
    return Schedule(
        schedule.alpha_bar,
        spacing=Spacing(
            rule="ends" if rule == "linspace" else rule,
            offset=int(settings.get("steps_offset") or 0) if rule == "leading" else 0,
        ),
        final=1.0 if whole else float(schedule.alpha_bar[0]),
        noise_alone=name in _NOISE_ALONE and rule != "leading",
    ), settings
