"""A labeler by what is given: a name, a folder, a file or a hub id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from labeling.adapters import load_checkpoint, load_clip, load_hf, load_onnx
from labeling.labeler import Combination, Predictor
from labeling.probe import HEAD

__all__ = ["embedded_labelers", "load_labeler"]

_EMBEDDED = Path(__file__).parent / "weights"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def embedded_labelers() -> list[str]:
    """Names of the labelers that come with the package."""
    return sorted(card.parent.name for card in _EMBEDDED.glob("*/card.json"))


def load_labeler(src: str | Path | Sequence[str | Path]) -> Predictor:
    """Load a labeler; nothing of what is loaded is executed.

    Args:
        src: one of

            - an embedded name, which always means the embedded labeler; a local folder of that name
              is `./name`, or a `Path`;
            - a checkpoint folder of ours (`card.json`, `model.safetensors`);
            - a folder of a transformers image classifier (`config.json`);
            - an .onnx file with its card beside it;
            - a .yaml, .yml or .json file of prompts for CLIP;
            - a hub id `owner/name` of a transformers image classifier, which is downloaded;
            - several of these: each attribute is the first's that knows it.

    Returns:
        A `Labeler`, which has a torch network, of all but .onnx files and several sources.

    Raises:
        FileNotFoundError: `src` is none of these, or a file of it is missing.
        ValueError: the files do not fit together, or need a library that is not installed.
    """
    if not isinstance(src, (str, Path)):
        parts = [load_labeler(one) for one in src]
        return parts[0] if len(parts) == 1 else Combination(parts)
    path = Path(src)
    if isinstance(src, str) and src in embedded_labelers():
        return load_checkpoint(_EMBEDDED / src)
    if (path / HEAD).is_file():
        raise ValueError(
            f"labeler {path} is a linear head on another network's features; give that network "
            "too: --generator on the command line, labeling.load_probe in Python"
        )
    if path.is_dir():
        ours = (path / "card.json").is_file() or not (path / "config.json").is_file()
        return load_checkpoint(path) if ours else load_hf(path)
    if path.suffix == ".onnx":
        return load_onnx(path)
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        return load_clip(path)
    if isinstance(src, str) and _HUB_ID.fullmatch(src) and not path.parent.is_dir():
        return load_hf(src)
    names = ", ".join(embedded_labelers()) or "none here"
    raise FileNotFoundError(
        f"labeler {str(src)!r} is neither an embedded name ({names}) nor a folder; give one of "
        "these names, a folder with card.json and model.safetensors or of a transformers model, "
        "an .onnx file, a .yaml file of CLIP prompts or a hub id"
    )
