"""Foreign files -> labelers; one kind of file a module."""

from labeling.adapters.checkpoint import load_checkpoint
from labeling.adapters.clip import load_clip
from labeling.adapters.hf import load_hf
from labeling.adapters.onnx import export_onnx, load_onnx

__all__ = ["export_onnx", "load_checkpoint", "load_clip", "load_hf", "load_onnx"]
