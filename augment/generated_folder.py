"""A folder of generated images: its record, its files and its table, all written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, PngImagePlugin
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from augment.atomic import write_bytes

__all__ = ["claim", "is_whole", "read_record", "save_image", "write_table"]

_RECORD = "settings.json"
_TABLE = "metadata.csv"

_PNG_END = b"IEND\xaeB`\x82"
"""The last bytes of a PNG file: its end chunk with its check sum."""


def claim(folder: Path, record: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Record what the folder holds, or check that it holds the same.

    Raises:
        ValueError: it holds images of other settings, or files that are not ours.
    """
    path = folder / _RECORD
    if not path.is_file():
        strangers = [
            name for name in (_TABLE, *map("{}.png".format, seeds)) if (folder / name).exists()
        ]
        if strangers:
            raise ValueError(
                f"{folder} holds {strangers[0]} but no {_RECORD}, so no images of ours; "
                "give another folder"
            )
        write_bytes(path, (json.dumps(record, indent=2) + "\n").encode())
        return
    found = read_record(folder)
    keys = sorted(record.keys() | found.keys())
    if different := [key for key in keys if found.get(key) != record.get(key)]:
        key = different[0]
        raise ValueError(
            f"{folder} holds images of another run "
            f"({key} {found.get(key)}, now {record.get(key)}); "
            "give another folder"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """The settings of the images in a folder.

    Raises:
        FileNotFoundError: no such folder, or it has no record.
        ValueError: what stands there is none.
    """
    path = folder / _RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; give a folder as augment.generate wrote it, with its {_RECORD}"
        )
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no record of generated images; give another folder") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write the table, or add the rows that the standing one lacks; its own cells stay."""
    if path.is_file():
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
        new = table[~table["file_name"].isin(found["file_name"])]
        if new.empty:
            return
        table = pd.concat([found, new.astype(str)], ignore_index=True)
    write_bytes(path, table.to_csv(index=False).encode())


def is_whole(path: Path) -> bool:
    """Whether a file stands there and is a complete PNG."""
    try:
        with Image.open(path) as image:
            image.verify()
        # Pillow does not look at what follows the end chunk's name.
        return path.read_bytes().endswith(_PNG_END)
    except (OSError, SyntaxError):
        return False


def save_image(image: Tensor, path: Path, text: Mapping[str, Any]) -> None:
    """Write uint8 (C, H, W) as PNG, each entry of `text` as JSON in a text chunk."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, json.dumps(value))
    file = BytesIO()
    to_pil_image(image).save(file, format="PNG", pnginfo=chunks)
    write_bytes(path, file.getvalue())
