"""Write a guided-diffusion checkpoint as a diffusers folder, which others can load as well.

    python recipes/convert.py lsun_bedroom.pt --out runs/bedroom

It takes seconds and as much memory as twice the file. `load_denoiser` (of an upsampler
`load_upsampler`) and `diffusers.UNet2DModel.from_pretrained` both open the result. What the tensors
of an unknown checkpoint cannot tell is asked for: `--options.schedule cosine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from augment import CheckpointOptions
from augment.pretrained import load_checkpoint, save_pipeline
from recipes.chain.command.command_line import parse, run

__all__ = ["Settings", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Write a guided-diffusion checkpoint as a diffusers folder, in float32."""

    checkpoint: Path
    """The `.pt` file of a denoiser or an upsampler."""
    out: Path = Path("runs/convert")
    """A new or empty folder for the pipeline."""
    options: CheckpointOptions = field(default_factory=CheckpointOptions)
    """What the tensors cannot tell of a file that is no known checkpoint."""

    def __post_init__(self) -> None:
        if self.checkpoint.is_dir():
            raise ValueError(
                f"{self.checkpoint} is a folder; give a guided-diffusion .pt file; a diffusers "
                "folder needs no conversion"
            )
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out} is not empty; give a new folder")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Convert, say what was taken for granted, and return the folder."""
    settings = parse(Settings, arguments)
    denoiser = load_checkpoint(settings.checkpoint.expanduser(), settings.options)
    card = dict(denoiser.card)
    card["converted"] = {"from": settings.checkpoint.name, "sha256": card.pop("sha256")}
    del card["source"]
    saved = save_pipeline(denoiser, settings.out, card=card)
    taken = ", ".join(f"{name} {value}" for name, value in saved["settings"].items())
    known = f" of {saved['known']} (by {saved['recognised_by']})" if "known" in saved else ""
    print(f"{settings.out}: settings{known}: {taken}")
    if heads := saved.get("attention_heads"):
        print(
            f"diffusers' configuration cannot say that every attention has {heads} heads: after "
            f"UNet2DModel.from_pretrained, set `heads = {heads}` on each; load_upsampler does"
        )
    return settings.out


if __name__ == "__main__":
    run(main)
