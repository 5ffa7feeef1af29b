"""Text-to-image models of diffusers, Stable Diffusion 1, 2 and XL, whose classes are prompts.

A prompt is embedded once, when the model is loaded: class k is the k-th prompt, and the null class
that of classifier-free guidance, a negative prompt or none at all. The rest of this package need
not know that there is text. Few-step variants (Turbo, Lightning) are the same networks with another
scheduler.

References: Rombach et al. 2022, https://arxiv.org/abs/2112.10752; Podell et al. 2023,
https://arxiv.org/abs/2307.01952
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser
from augment.files import one_line
from augment.pretrained.files import optional_module
from augment.pretrained.latent_models import latent_denoiser, latents_of
from augment.pretrained.parts import load_part, parts_of, read_json, variant_of

__all__ = ["load_text_to_image"]


class _Embedded(NamedTuple):
    """What a network is told of prompts, the last row being what it is guided away from."""

    tokens: Tensor
    """float32 (K + 1, tokens, D)."""
    pooled: Tensor | None
    """float32 (K + 1, E), of XL."""


def load_text_to_image(
    folder: Path, prompts: Sequence[str], negative_prompt: str | None = None
) -> Denoiser:
    """The denoiser of a Stable Diffusion pipeline, with a class for each prompt.

    Args:
        folder: of the pipeline.
        prompts: at least one; what exceeds the text encoder's 77 tokens is cut off.
        negative_prompt: the null class; left out, no prompt.

    Raises:
        FileNotFoundError: a part is missing; the message names it.
        ValueError: no prompt, an empty one, a part that this sampler cannot run, or transformers is
            not installed.
    """
    _transformers()  # refused before anything is loaded
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ValueError(
            f"{folder} makes images of prompts, and {len(prompts)} are given"
            f"{', one of them empty' if prompts else ''}; give at least one, each with some text"
        )
    unet = load_part(folder / "unet", diffusers.UNet2DConditionModel)
    if unet.config["time_cond_proj_dim"] is not None:
        raise ValueError(
            f"{folder} is told the scale of guidance (time_cond_proj_dim), as latent consistency "
            "models are; allowed are those that are not; give another model"
        )
    latents = latents_of(folder, unet.config)
    embedded = _embedded(folder, list(prompts), negative_prompt)
    network = _Prompted(unet, embedded, latents.image.size)
    read_as: dict[str, Any] = {"prompts": list(prompts)}
    if negative_prompt is not None:
        read_as["negative_prompt"] = negative_prompt
    return latent_denoiser(
        folder,
        network,
        latents,
        config=unet.config,
        classes=len(prompts),
        null_class=len(prompts),
        settings=read_as,
    )


class _Prompted(nn.Module):
    """A UNet2DConditionModel that takes the number of a prompt in place of its embedding."""

    pooled: Tensor | None
    size: Tensor

    def __init__(self, unet: Any, embedded: _Embedded, size: int) -> None:
        super().__init__()
        self.unet = unet
        self.class_embedding = _Rows(embedded.tokens)
        self.register_buffer("pooled", embedded.pooled, persistent=False)
        # Of the photograph, where its crop begins, and of what is wanted.
        sizes = torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32)
        self.register_buffer("size", sizes, persistent=False)

    def forward(self, x: Tensor, timestep: Tensor, labels: Tensor) -> Any:
        """(B, c, h, w), timesteps and prompts int64 (B,), to the UNet's output."""
        added = None
        if self.pooled is not None:
            sizes = self.size.expand(len(x), -1)
            added = {"text_embeds": self.pooled[labels], "time_ids": sizes}
        tokens = self.class_embedding(labels)
        return self.unet(x, timestep, encoder_hidden_states=tokens, added_cond_kwargs=added)


class _Rows(nn.Module):
    """A table of embeddings that are not trained."""

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, labels: Tensor) -> Tensor:
        return self.rows[labels]


def _embedded(folder: Path, prompts: list[str], negative: str | None) -> _Embedded:
    """The prompts and the negative or no prompt, as diffusers' own pipeline embeds them."""
    index = read_json(folder / "model_index.json")
    parts: dict[str, Any] = {
        name: _text_part(folder / name, kind)
        for name, kind in parts_of(index).items()
        if name in ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
    }
    rest: dict[str, Any] = {"vae": None, "unet": None, "scheduler": None}
    with torch.no_grad():
        if "text_encoder_2" in parts:
            zeros = bool(index.get("force_zeros_for_empty_prompt", True))
            pipeline = diffusers.StableDiffusionXLPipeline(
                **parts, **rest, force_zeros_for_empty_prompt=zeros, add_watermarker=False
            )
            tokens, none, pooled, none_pooled = pipeline.encode_prompt(
                prompts,
                device=torch.device("cpu"),
                do_classifier_free_guidance=True,
                negative_prompt=negative,
            )
            return _Embedded(torch.cat([tokens, none[:1]]), torch.cat([pooled, none_pooled[:1]]))
        pipeline = diffusers.StableDiffusionPipeline(
            **parts,
            **rest,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        away = None if negative is None else [negative] * len(prompts)
        tokens, none = pipeline.encode_prompt(prompts, torch.device("cpu"), 1, True, away)
    return _Embedded(torch.cat([tokens, none[:1]]), None)


def _transformers() -> Any:
    return optional_module("transformers", needed_by="text-to-image models", extra="hf")


def _text_part(folder: Path, kind: str) -> Any:
    """A tokenizer or text encoder of transformers, by the class that the pipeline names."""
    transformers = _transformers()
    encoders = ("CLIPTextModel", "CLIPTextModelWithProjection")
    allowed = ("CLIPTokenizer", "CLIPTokenizerFast") if "tokenizer" in folder.name else encoders
    if kind not in allowed:
        raise ValueError(
            f"{folder} is a {kind}; allowed are {' and '.join(allowed)}; give a Stable Diffusion "
            "model of version 1, 2 or XL"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; give the folder as it was saved")
    try:
        if kind not in encoders:
            return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
        encoder, report = getattr(transformers, kind).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=variant_of(folder),
            output_loading_info=True,
        )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{len(missing)} missing keys, the first {missing[0]}")
    except FileNotFoundError:
        raise
    except Exception as error:  # A configuration can be wrong in as many ways as it has values.
        raise ValueError(
            f"{folder} does not load ({one_line(error)}); give the folder as it was saved"
        ) from error
    return encoder.float().eval()
