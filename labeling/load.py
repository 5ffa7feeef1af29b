"""A labeler by the name of embedded weights or by its folder."""

from __future__ import annotations

from pathlib import Path

from labeling.adapters.checkpoint import load_checkpoint
from labeling.labeler import Labeler

__all__ = ["embedded_labelers", "load_labeler"]

_EMBEDDED = Path(__file__).parent / "weights"


def embedded_labelers() -> list[str]:
    """Names of the labelers that come with the package."""
    return sorted(card.parent.name for card in _EMBEDDED.glob("*/card.json"))


def load_labeler(src: str | Path) -> Labeler:
    """Load a labeler; nothing is downloaded and nothing of what is loaded is executed.

    Args:
        src: an embedded name, or the path of a checkpoint folder. A name wins over a folder of the
            same name; write `./name` for the folder.

    Returns:
        The labeler in float32 on the CPU.

    Raises:
        FileNotFoundError: `src` is neither, or the folder lacks a file.
        ValueError: the folder's files do not fit together; see `load_checkpoint`.
    """
    names = embedded_labelers()
    if isinstance(src, str) and src in names:
        return load_checkpoint(_EMBEDDED / src)
    if not Path(src).is_dir():
        raise FileNotFoundError(
            f"labeler {str(src)!r} is neither an embedded name ({', '.join(names) or 'none here'}) "
            "nor a folder; "
            "give one of these names or a folder with card.json and model.safetensors"
        )
    return load_checkpoint(src)
