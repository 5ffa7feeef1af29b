"""Foreign files -> labelers; one kind of file a module."""

from labeling.adapters.checkpoint import load_checkpoint
from labeling.adapters.clip import load_clip
from labeling.adapters.hf import load_hf
from labeling.adapters.onnx import load_onnx

__all__ = ["load_checkpoint", "load_clip", "load_hf", "load_onnx"]
