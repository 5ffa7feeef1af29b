"""Write a checkpoint as a diffusers folder, which others can load and this package loads alike.

    python -m augment.pretrained.convert lsun_bedroom.pt bedroom

What the tensors of an unknown checkpoint cannot tell is asked for: `--options.schedule cosine`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from augment.command import run
from augment.pretrained.diffusers_folder import CARD, save_pipeline
from augment.pretrained.guided_diffusion import load_checkpoint
from augment.pretrained.options import CheckpointOptions

__all__ = ["convert"]


def convert(source: Path, out: Path, *, options: CheckpointOptions = CheckpointOptions()) -> Path:
    """Write a denoiser or an upsampler as a diffusers pipeline folder, in float32.

    Args:
        source: a guided-diffusion `.pt` file.
        out: a new or empty folder.
        options: what the tensors cannot tell of a file that is no known checkpoint.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that cannot be converted, or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; allowed is a new folder; give another one")
    if source.is_dir():
        raise ValueError(
            f"{source} is a folder; allowed is a guided-diffusion .pt file; "
            "a diffusers folder needs no conversion"
        )
    denoiser = load_checkpoint(source.expanduser(), options)
    card = dict(denoiser.card)
    card["converted"] = {"from": Path(str(card.pop("source"))).name, "sha256": card.pop("sha256")}
    save_pipeline(denoiser, out, card=card)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    print(_summary(run(convert, arguments)))


def _summary(folder: Path) -> str:
    """What was taken for granted of the checkpoint, and what others must know of the folder."""
    card = json.loads((folder / CARD).read_text())
    settings = ", ".join(f"{name} {value}" for name, value in card["settings"].items())
    known = f" of {card['known']} (by {card['recognised_by']})" if "known" in card else ""
    lines = [f"{folder}: settings{known}: {settings}"]
    if heads := card.get("attention_heads"):
        lines.append(
            f"diffusers' configuration cannot say that every attention has {heads} heads: after "
            f"UNet2DModel.from_pretrained, set `heads = {heads}` on each; load_upsampler does"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
