"""From a path to a classifier of noised images, for the classifier term of guidance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from augment.pretrained.classifier_folder import load_classifier_folder
from augment.pretrained.files import hold_to_hash, read_tensors, sha256_of
from augment.pretrained.guided_diffusion import load_tensors
from augment.pretrained.noised_classifier import NoisedClassifier
from augment.pretrained.options import CheckpointOptions
from augment.pretrained.recognise import read_architecture, recognise

__all__ = ["load_noised_classifier"]


def load_noised_classifier(
    path: str | Path, options: CheckpointOptions | None = None
) -> NoisedClassifier:
    """Load a classifier of noised images, frozen, in evaluation mode.

    Args:
        path: a guided-diffusion `.pt` file, or a folder of `augment.train_classifier`.
        options: what the tensors cannot tell of a file that is no known checkpoint.

    Raises:
        FileNotFoundError: there is no such file, or a part of the folder is missing.
        ValueError: it is no such classifier, tensors are missing, or it takes an option to know
            it entirely; the message says which.
    """
    path, given = Path(path).expanduser(), options or CheckpointOptions()
    if path.is_dir():
        if given != CheckpointOptions():
            raise ValueError(
                f"{path} is a folder, whose card says everything; options are allowed for a .pt "
                "file only; leave them out"
            )
        return load_classifier_folder(path)
    return _load_checkpoint(path, given).eval().requires_grad_(False)


def _load_checkpoint(path: Path, options: CheckpointOptions) -> NoisedClassifier:
    state = read_tensors(path)
    architecture = read_architecture(state, path, options.image_size)
    if architecture.pool is None:
        raise ValueError(
            f"{path} is a denoiser; allowed is a noised classifier with an attention pool; "
            "give it to load_denoiser or load_upsampler"
        )
    # Its size is told by the pool's grid, whatever the card of one built alike says.
    told = architecture.pool * 2 ** (len(architecture.widths) - 1)
    sha256 = sha256_of(path)
    recognised = recognise(architecture, sha256, replace(options, image_size=told), path)
    with torch.device("meta"):
        classifier = NoisedClassifier(
            architecture, recognised.settings, recognised.card(path, sha256)
        )
    load_tensors(classifier, state, architecture, recognised.settings, path)
    hold_to_hash(path, sha256)
    return classifier
