"""A labeler with a torch network -> an ONNX file with its card, for use without torch."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import torch

from labeling.adapters.extras import require
from labeling.card import head
from labeling.files import refuse_existing, write_text
from labeling.labeler import Labeler, Predictor

__all__ = ["export_onnx"]

_OPSET = 18


def export_onnx(labeler: Predictor, path: str | Path) -> Path:
    """Write `NAME.onnx` and its card `NAME.json`, which `load_labeler` takes.

    Args:
        labeler: one with a torch network; it is left on its device.
        path: of the .onnx file. The graph takes preprocessed images, float32 (N, 3, S, S) for any
            N, and gives log-odds (N, A).

    Returns:
        The path.

    Raises:
        ValueError: the labeler has no torch network, the path is no .onnx, a file exists, or a
            library is not installed.
    """
    path = Path(path)
    if not isinstance(labeler, Labeler):
        raise ValueError(
            f"the labeler of {head(labeler.attributes)} has no torch network to export; "
            "give a checkpoint, a transformers model or CLIP prompts"
        )
    if path.suffix != ".onnx":
        raise ValueError(f"{path} does not end in .onnx; give it that ending")
    for file in (path, path.with_suffix(".json")):
        refuse_existing(file)
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}.{os.getpid()}.onnx")
    _write_graph(labeler, scratch)
    card = {**asdict(labeler.card), "activation": "sigmoid", "layout": "NCHW"}
    write_text(path.with_suffix(".json"), json.dumps(card, indent=1))
    os.replace(scratch, path)
    return path


def _write_graph(labeler: Labeler, path: Path) -> None:
    size = labeler.card.image_size
    device = next((p.device for p in labeler.network.parameters()), torch.device("cpu"))
    example = torch.zeros(2, 3, size, size, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of torch's deprecated classes
        torch.onnx.export(
            labeler.network,
            (example,),
            path,
            input_names=["images"],
            output_names=["log_odds"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
