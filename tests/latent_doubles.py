"""Tiny random latent models, saved by diffusers as their pipelines save them, and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from augment import DDIM, Denoiser, reverse_process

__all__ = [
    "assert_close",
    "end_of",
    "generator",
    "latent_start",
    "save_dit",
    "save_ldm",
    "save_stable_diffusion",
    "stable_scheduler",
]

transformers: Any = pytest.importorskip("transformers", reason="needs the extra hf")

_BLOCKS: dict[str, Any] = {
    "block_out_channels": (4, 8),
    "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
    "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
    "norm_num_groups": 4,
    "sample_size": 16,
}
_UNET: dict[str, Any] = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
}


def save_ldm(folder: Path, *, scaling: float = 0.7, **scheduler: Any) -> Any:
    """An unconditional LDM of 16 x 16 pixels with a VQ autoencoder; the pipeline."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = diffusers.LDMPipeline(
            vqvae=diffusers.VQModel(
                **_BLOCKS, latent_channels=3, num_vq_embeddings=64, scaling_factor=scaling
            ),
            unet=diffusers.UNet2DModel(
                **_UNET,
                in_channels=3,
                out_channels=3,
                attention_head_dim=4,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            ),
            scheduler=diffusers.DDIMScheduler(
                beta_start=0.0015,
                beta_end=0.0195,
                beta_schedule="scaled_linear",
                clip_sample=False,
                **scheduler,
            ),
        )
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_dit(folder: Path) -> Any:
    """A class-conditional DiT of 16 x 16 pixels with learned variance; the pipeline."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=1000,  # the pipeline's null class is 1000, whatever the model
            activation_fn="gelu-approximate",
            norm_num_groups=4,
        ).eval()  # or its pipeline would drop classes
        pipeline = diffusers.DiTPipeline(
            transformer, _autoencoder(), diffusers.DDIMScheduler(clip_sample=False)
        )
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_stable_diffusion(
    folder: Path, scheduler: Any = None, *, xl: bool = False, **options: Any
) -> Any:
    """A Stable Diffusion of 16 x 16 pixels, of version 1, 2 or XL; the pipeline."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.CLIPTextModel(_text_config()).eval()
        tokenizer = _tokenizer(folder)
        more: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
        unet: dict[str, Any] = {"cross_attention_dim": 16}
        kind: Any = diffusers.StableDiffusionPipeline
        if xl:
            second = transformers.CLIPTextModelWithProjection(_text_config()).eval()
            more = {"text_encoder_2": second, "tokenizer_2": tokenizer, "add_watermarker": False}
            unet = {
                "cross_attention_dim": 32,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 16 + 6 * 8,
            }
            kind = diffusers.StableDiffusionXLPipeline
        pipeline = kind(
            vae=_autoencoder(),
            text_encoder=encoder,
            tokenizer=tokenizer,
            unet=diffusers.UNet2DConditionModel(
                **_UNET,
                **unet,
                **options,
                attention_head_dim=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            ),
            scheduler=scheduler or stable_scheduler(diffusers.DDIMScheduler),
            **more,
        )
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_scheduler(kind: Any, **options: Any) -> Any:
    """Stable Diffusion's noise, as a scheduler of diffusers."""
    if kind is diffusers.DDIMScheduler:
        options = {"clip_sample": False, "set_alpha_to_one": False, **options}
    return kind(
        **{
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "steps_offset": 1,
            **options,
        }
    )


def latent_start(channels: int) -> Tensor:
    """The noise that pipelines start from by `generator`, (2, channels, 8, 8)."""
    return torch.randn(2, channels, 8, 8, generator=generator())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def end_of(
    denoiser: Denoiser, steps: int, labels: list[int] | None = None, eta: float = 0.0
) -> Tensor:
    """The last state of a plain run from the noise that the pipelines start from."""
    x = denoiser.schedule.respaced(steps).start_scale * latent_start(denoiser.shape[0])
    solver = DDIM(eta=eta)
    *_, state = reverse_process(
        denoiser, range(2), steps=steps, solver=solver, labels=labels, start=x
    )
    return state.x


def assert_close(found: Tensor, expected: Tensor) -> None:
    """To the deviation that parity with a pipeline allows."""
    deviation = (found - expected).abs().max() / expected.abs().max()
    assert deviation < 1e-4


def _autoencoder() -> Any:
    return diffusers.AutoencoderKL(**_BLOCKS, latent_channels=4, scaling_factor=0.5)


def _text_config() -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        max_position_embeddings=77,
    )


def _tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with letters alone."""
    words = ["<|startoftext|>", "<|endoftext|>"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words += letters + [f"{letter}</w>" for letter in letters]
    source = folder / "made"
    source.mkdir(parents=True)
    (source / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (source / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(source, model_max_length=77)
