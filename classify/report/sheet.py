"""Contact sheets: many small images as one PNG inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from classify.report.blocks import Cell, Sheet

__all__ = ["contact_sheet"]

_COLUMNS, _GAP, _LARGEST = 8, 2, 96


def contact_sheet(
    paths: Sequence[str | Path], caption: Cell, what: str, *, limit: int = 64
) -> Sheet:
    """Put the first `limit` images in rows of 8, each a square of the first one's size but at most
    96 pixels.

    Args:
        paths: at least one image file.
        caption: what stands above.
        what: what the images are, for who cannot see them.
        limit: largest number of images shown; the page should stay small enough to send.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: an image does not decode.
    """
    images = [_open(Path(path)) for path in paths[:limit]]
    side = min(max(images[0].size), _LARGEST)
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    step = side + _GAP
    sheet = Image.new("RGBA", (columns * step - _GAP, rows * step - _GAP))  # transparent gaps
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        sheet.paste(ImageOps.pad(image, (side, side)), (column * step, row * step))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    label = f"Grid of {len(images)} images: {what}"
    return Sheet(uri, sheet.width, sheet.height, label, caption)


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"image {path} is missing; generate it again")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} does not decode as an image ({error}); make it again") from error
