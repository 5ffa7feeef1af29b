"""A tiny generator, small data sets and command lines for the tests of the recipes."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from augment_doubles import tiny_unet
from PIL import Image

from augment import Denoiser, ImageFormat, Schedule
from augment.pretrained import save_pipeline
from classify.datasets.avatars import ATTRIBUTES

SPLITS = ("train",) * 12 + ("val",) * 6 + ("test",) * 8


def save_generator(folder: Path, *, channels: int = 3, size: int = 16, steps: int = 50) -> Path:
    """A random UNet2DModel with learned variance, as a diffusers folder."""
    denoiser = Denoiser(
        tiny_unet(channels, 2 * channels, sample_size=size),
        Schedule.cosine(steps),
        ImageFormat(channels=channels, size=size),
        variance="learned_range",
    )
    save_pipeline(denoiser, folder, card={"data": "none, random weights"})
    return folder


def save_folder(
    root: Path,
    *,
    attributes: Sequence[str] = ("Male", "Smiling"),
    splits: Sequence[str] = SPLITS,
    size: int = 20,
    mode: str = "RGB",
) -> Path:
    """A user's own folder: noise whose brightness shows the first attribute, and `metadata.csv`."""
    rng = np.random.default_rng(0)
    labels = np.arange(len(splits))[:, None] // 2 ** np.arange(len(attributes)) % 2
    (root / "images").mkdir(parents=True)
    names = [f"images/{row:03d}.png" for row in range(len(splits))]
    for name, row in zip(names, labels, strict=True):
        shape = (size, size) if mode == "L" else (size, size, 3)
        pixels = rng.integers(0, 100, shape) + 150 * row[0]
        Image.fromarray(pixels.astype(np.uint8), mode).save(root / name)
    table = pd.DataFrame({"file_name": names, "split": splits, "source": "real"})
    table[list(attributes)] = labels
    table.to_csv(root / "metadata.csv", index=False)
    return root


def save_celeba(root: Path, *, images: int) -> Path:
    """CelebA's own layout with photographs' worth of noise, 178 x 218, three absent ones."""
    rng = np.random.default_rng(0)
    names = [f"{number:06d}.jpg" for number in range(1, images + 4)]
    (root / "img_align_celeba").mkdir(parents=True)
    for name in names[:images]:
        pixels = rng.integers(0, 256, (218, 178, 3), np.uint8)
        Image.fromarray(pixels).save(root / "img_align_celeba" / name)
    values = np.where(np.add.outer(np.arange(len(names)), np.arange(40)) % 2, 1, -1)
    lines = [
        f"{n} {' '.join(f'{v:2d}' for v in row)}" for n, row in zip(names, values, strict=True)
    ]
    listed = "\n".join([str(len(names)), " ".join(ATTRIBUTES), *lines])
    (root / "list_attr_celeba.txt").write_text(f"{listed}\n")
    splits = "\n".join(f"{name} {row % 3}" for row, name in enumerate(names))
    (root / "list_eval_partition.txt").write_text(f"{splits}\n")
    return root


def tiny_flags(data: Path, generator: Path, out: Path) -> list[str]:
    """Everything small: seconds for the whole chain."""
    return [
        *(f"--data={data}", f"--generator={generator}", f"--out={out}", "--num_synthetic=6"),
        *("--sampler.steps=3", "--sampler.batch_size=2", "--guidance.every=1"),
        *(
            "--train.epochs=1",
            "--train.min_steps=1",
            "--train.batch_size=4",
            "--train.rounds=1",
            "--study.seeds=2",
        ),
        "--labels.trust=[all]",  # 3 of 6 validation images judge nothing
        "--train.architecture=shufflenet_v2_x0_5",
        "--devices=1",
    ]


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Path below the folder -> hash of the file, for all files that match."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


@contextmanager
def pythons_own_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM as Python treats them, wherever the tests run: in the background of a
    script, Ctrl-C is ignored.
    """
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
