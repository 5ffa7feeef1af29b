"""What a dataset card calls the columns and the verdicts of a synthetic set."""

from __future__ import annotations

from augment.admission import ADMISSION, BLANK, KEPT, LEAKS, MEMORISED, OFF_MANIFOLD, UNREADABLE

__all__ = ["COLUMNS", "VERDICTS"]

COLUMNS = {
    "file_name": "the image, relative to the table",
    "split": "always train: these images judge nothing",
    "source": "always synthetic",
    "seed": "of the image's noise; with the settings it makes the image again",
    "sampler": "how it was drawn",
    "class_label": "the generator's class it was drawn for",
    ADMISSION: "the verdict, see below",
    "copied": "the real image it copies, empty for others",
    "copied_distance": "how far it is from that one, in [0, 2]",
}
VERDICTS = {
    KEPT: "nothing was found against it",
    UNREADABLE: "the file does not decode, or the picture was not finite",
    BLANK: "shows next to nothing",
    **{leak: f"nearly the real {leak.split()[-1]} image in `copied`" for leak in LEAKS},
    MEMORISED: "nearly the real training image in `copied`",
    OFF_MANIFOLD: "lies where no real image lies",
}
