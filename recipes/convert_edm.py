"""Write a network of EDM's, a .pkl file, as a folder of safetensors that every command here loads.

    python recipes/convert_edm.py edm-ffhq-64x64-uncond-vp.pkl --out runs/ffhq
    python recipes/generate.py runs/ffhq --seeds 16 --sampler.steps 40 --sampler.solver ddim

Such a file carries the source of its classes, which their own loader runs. Here nothing of it is
executed: tensors and plain containers are read, and a file that asks for more is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augment.pretrained import convert_edm
from recipes.chain.command.command_line import parse, run

__all__ = ["Settings", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Write a network of EDM's (Karras et al. 2022), DDPM++ or ADM, as safetensors, in float32."""

    pickle: Path
    """The `.pkl` file."""
    out: Path = Path("runs/convert_edm")
    """A new or empty folder."""

    def __post_init__(self) -> None:
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out} is not empty; give a new folder")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Convert, say what was found, and return the folder."""
    settings = parse(Settings, arguments)
    found = convert_edm(settings.pickle.expanduser(), settings.out)["architecture"]
    kind = "ADM" if found["adm"] else "DDPM++"
    of = f", {found['classes']} classes" if found["classes"] else ""
    print(f"{settings.out}: {kind}, {found['size']} x {found['size']} pixels{of}")
    return settings.out


if __name__ == "__main__":
    run(main)
