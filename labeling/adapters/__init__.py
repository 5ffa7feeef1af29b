"""Foreign files -> `Labeler`; one kind of file a module."""

from labeling.adapters.checkpoint import load_checkpoint

__all__ = ["load_checkpoint"]
