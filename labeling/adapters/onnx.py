"""An ONNX file with a card beside it, run by onnxruntime, or written from a torch network.

Beside `NAME.onnx` stands `NAME.json`, the fields of `OnnxCard`; an .onnx file says of its input
neither the normalisation nor what its outputs mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from labeling.adapters.foreign import require
from labeling.card import LabelerCard, head, read_card
from labeling.files import refuse_existing, scratch_path, write_text
from labeling.labeler import Labeler, Predictor, check_images, preprocess

__all__ = ["OnnxCard", "OnnxLabeler", "export_onnx", "load_onnx"]

Activation = Literal["none", "sigmoid", "softmax"]
Layout = Literal["NCHW", "NHWC"]

_OPSET = 18


@dataclass(frozen=True, kw_only=True)
class OnnxCard(LabelerCard):
    """A card that says besides how the graph is fed and read."""

    activation: Activation
    """What turns the graph's output (N, A) into probabilities: `sigmoid` for log-odds, `softmax`
    for the scores of exclusive classes, `none` for what is probabilities already."""
    layout: Layout = "NCHW"
    """Order of the input's axes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("activation", get_args(Activation)), ("layout", get_args(Layout))):
            value = getattr(self, name)
            self._check(value in allowed, name, value, " or ".join(allowed))


class OnnxLabeler(Predictor):
    """A labeler without gradients, on the best device that onnxruntime has.

    Args:
        card: its outputs and preprocessing.
        session: an `onnxruntime.InferenceSession` of one input, float32 (N, 3, S, S) or (N, S, S,
            3), whose first output is float (N, A).
        sha256: of the .onnx file.
    """

    card: OnnxCard

    def __init__(self, card: OnnxCard, session: Any, *, sha256: str = "") -> None:
        self.card = card
        self.sha256 = sha256
        self._session = session
        self._input = session.get_inputs()[0]
        self._batch = self._input.shape[0]  # a number if the graph was exported for that many

    def to(self, device: torch.device | str) -> OnnxLabeler:
        """Itself: the device is onnxruntime's."""
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities float32 (N, A) in [0, 1] on the CPU, of uint8 (N, 1 or 3, H, W)."""
        check_images(images)
        if len(images) == 0:
            return torch.empty(0, len(self.attributes))
        x = preprocess(images.cpu().float() / 255, self.card)
        size = self._batch if isinstance(self._batch, int) else len(x)
        outputs = torch.cat([self._run(part) for part in torch.split(x, size)])
        if self.card.activation == "sigmoid":
            return outputs.sigmoid()
        return outputs.softmax(1) if self.card.activation == "softmax" else outputs

    def _run(self, x: Tensor) -> Tensor:
        """The graph's output float32 (N, A); a graph of a fixed batch gets it filled up."""
        n_rows = len(x)
        if isinstance(self._batch, int) and n_rows < self._batch:
            x = torch.cat([x, x[-1:].expand(self._batch - n_rows, -1, -1, -1)])
        if self.card.layout == "NHWC":
            x = x.permute(0, 2, 3, 1)
        array = np.ascontiguousarray(x.numpy())
        outputs = torch.from_numpy(self._session.run(None, {self._input.name: array})[0]).float()
        if outputs.ndim != 2 or outputs.shape[1] != len(self.attributes):
            raise ValueError(
                f"the ONNX graph gives {tuple(outputs.shape[1:])} an image; its card has "
                f"{len(self.attributes)} attributes; correct the card beside the .onnx file"
            )
        return outputs[:n_rows]


def load_onnx(path: str | Path) -> OnnxLabeler:
    """Load `NAME.onnx` and the card `NAME.json` beside it.

    The card needs `attributes`, `image_size`, `mean`, `std` and `activation`. A graph that takes
    pixels from 0 to 255 has mean 0 and std 1/255.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: onnxruntime is not installed, or a file cannot be read.
    """
    path = Path(path)
    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing; an ONNX labeler is {path.name} with its card "
                f"{card_path.name} beside it (attributes, image_size, mean, std, activation); "
                "add it"
            )
    runtime = require("onnxruntime", extra="onnx")
    defaults = {
        "architecture": "onnx",
        "thresholds": {},
        "source": path.name,
        "licence": "unknown",
        "command": "",
    }
    card = read_card(card_path, OnnxCard, defaults)
    content = path.read_bytes()
    try:
        session = runtime.InferenceSession(str(path), providers=runtime.get_available_providers())
    except Exception as error:  # its exceptions are its own, derived from nothing narrower
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not an ONNX graph ({reason}); export it again") from error
    return OnnxLabeler(card, session, sha256=hashlib.sha256(content).hexdigest())


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
    scratch = scratch_path(path)
    try:
        _write_graph(labeler, scratch)
        card = {**asdict(labeler.card), "activation": "sigmoid", "layout": "NCHW"}
        write_text(path.with_suffix(".json"), json.dumps(card, indent=1))
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _write_graph(labeler: Labeler, path: Path) -> None:
    size = labeler.card.image_size
    example = torch.zeros(2, 3, size, size, device=labeler.device)
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
