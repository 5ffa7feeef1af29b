"""The card of a synthetic set: a Hugging Face dataset card beside its images and their table.

Whatever comes from elsewhere (names, sources, licences) is escaped: it cannot become markup.
"""

from __future__ import annotations

import html
import math
import os
import re
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader

from augment import admitted, keep_rates
from augment.selection import ADMISSION, BLANK, KEPT, LEAKS, MEMORISED, OFF_MANIFOLD, UNREADABLE
from classify.files import write_text
from recipes.chain.images.realism import REALISM
from recipes.chain.settings.targets import agreement
from recipes.chain.settings.untrained_terms import through_labeler

if TYPE_CHECKING:
    from recipes.chain.images.synthesis import Synthesised
    from recipes.chain.inputs import Inputs
    from recipes.chain.settings.study import RunConfig

__all__ = ["MARK", "dataset_card", "hub_licence", "size_category", "write_card"]

MARK = "---\n# Written by the run and renewed with it; take this line out to keep your own words.\n"
"""How a card of ours begins."""

COLUMNS = {
    "file_name": "the image, relative to the table",
    "split": "always train: these images judge nothing",
    "source": "always synthetic",
    "seed": "of the image's noise; with the settings it makes the image again",
    "seed_group": "images of one group were drawn together and depend on one another",
    "sampler": "how it was drawn",
    "class_label": "the generator's class it was drawn for",
    ADMISSION: "the verdict, see below",
    "copied": "the real image it copies, empty for others",
    "copied_distance": "how far it is from that one, in [0, 2]",
    REALISM: "below 0 it lies outside of all that is real, the farther the lower",
}
"""Column of a set's table -> what it holds."""
VERDICTS = {
    KEPT: "nothing was found against it",
    UNREADABLE: "the file does not decode, or the picture was not finite",
    BLANK: "it shows next to nothing",
    **{leak: f"it is nearly the real {leak.split()[-1]} image in `copied`" for leak in LEAKS},
    MEMORISED: "it is nearly the real training image in `copied`",
    OFF_MANIFOLD: "it lies where no real image lies",
}
"""Verdict of the admission -> what it means."""

_HUB_LICENCES = ("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0")
"""Licences that the hub knows by the name that cards here give them."""
_SIZES = {3: "n<1K", 4: "1K<n<10K", 5: "10K<n<100K", 6: "100K<n<1M", 7: "1M<n<10M"}


def write_card(folder: Path, text: str) -> None:
    """Write `README.md` into the folder, unless one stands there that is not ours."""
    path = folder / "README.md"
    # Bytes, as somebody else's file need not be UTF-8.
    if not path.exists() or path.read_bytes().startswith(MARK.encode()):
        write_text(path, text)


def dataset_card(config: RunConfig, inputs: Inputs, made: Synthesised) -> str:
    """The card of one synthetic set, front matter first.

    Args:
        config: of the run.
        inputs: of the run.
        made: the set's images, labelled and judged, and what of them trains.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"words": _escaped, "public": _public}
    card, settings = inputs.labeler.card, made.settings
    # Nothing is known of what drew images that were made elsewhere.
    generator = inputs.denoiser.card if settings.folder is None else {}
    rates = keep_rates({made.name: made.table})
    return environment.get_template("dataset_card.md.j2").render(
        mark=MARK,
        front=_front_matter(
            config, inputs, made, hub_licence(generator.get("licence"), card.licence)
        ),
        title=_title(config, inputs, made),
        name=made.name,
        settings=settings,
        table=made.table,
        generator=generator,
        generator_name=_generator_name(config, inputs),
        guidance=_guidance(made),
        asked=_asked(inputs, made),
        labeler_steers=inputs.labeler_steers(settings),
        had_part=inputs.labeler_steers(settings) or through_labeler(settings),
        labeler={**asdict(card), "sha256": inputs.labeler.sha256},
        fitted=any(rule.n is not None for rule in inputs.policy.rules.values()),
        labels=_labels(inputs, admitted(made.table)),
        columns=COLUMNS,
        trained=len(made.selection.table),
        rates=list(zip(rates[ADMISSION], rates["images"], strict=True)),
        verdicts=VERDICTS,
        realism=None if made.realism is None else made.realism.sentence(),
    )


def hub_licence(*licences: object) -> str:
    """The hub's word for the terms of a set that several works went into.

    Returns:
        The licence they share, `unknown` where one states none, else `other`.
    """
    stated = {str(licence or "unknown").lower() for licence in licences}
    if "unknown" in stated:
        return "unknown"
    only = stated.pop() if len(stated) == 1 else ""
    return only if only in _HUB_LICENCES else "other"


def size_category(count: int) -> str:
    """The hub's word for the number of images."""
    return _SIZES[min(max(len(str(count)), 3), 7)]


def _title(config: RunConfig, inputs: Inputs, made: Synthesised) -> str:
    if made.settings.folder is not None:
        return f"Synthetic images of the folder {made.settings.folder.name}"
    kind = "Minority" if made.settings.is_guided else "Ordinary"
    if made.settings.asks:
        kind = "Targeted"
    return f"{kind} samples of {_generator_name(config, inputs)}"


def _generator_name(config: RunConfig, inputs: Inputs) -> str:
    """What the card calls it, else where it was taken from."""
    card = inputs.denoiser.card
    return _line(card.get("name") or card.get("known") or _public(config.generator))


def _public(source: object) -> str:
    """A local path by its last part, as the card travels with the images; else as it is."""
    return Path(str(source)).name if os.path.exists(str(source)) else str(source)


def _guidance(made: Synthesised) -> dict[str, Any]:
    """The settings of the guidance that were used; empty without."""
    if made.settings.guidance is None:
        return {}
    used = asdict(made.settings.guidance)
    if used["budget"] is not None:
        del used["scale"]
    return {name: value for name, value in used.items() if value is not None}


def _asked(inputs: Inputs, made: Synthesised) -> list[tuple[str, int, int, str]]:
    """Attribute, value, images that were asked to have it, and the share that the labeler finds."""
    found = agreement(made.table, made.table, inputs.attributes)
    return [
        (name, int(value), int(asked), _number(float(hit)))
        for name, value, asked, hit in found[["attribute", "value", "asked", "hit"]].to_numpy()
    ]


def _front_matter(config: RunConfig, inputs: Inputs, made: Synthesised, licence: str) -> str:
    own = {
        "diffusion": made.settings.folder is None,
        "minority": made.settings.is_guided,
    }
    tags = ["synthetic", "diffusion", "pseudo-labels", "minority"]
    paths = [PurePosixPath(name) for name in made.table["file_name"]]
    patterns = {("**/" if len(p.parts) > 1 else "") + f"*{p.suffix}" for p in paths}
    # The table names every image, so the record beside them is never taken for data.
    files = {"split": "train", "path": [*sorted(patterns), "metadata.csv"]}
    fields = {
        "pretty_name": _title(config, inputs, made),
        "license": licence,
        **({"license_name": "as-generator-and-labeler"} if licence == "other" else {}),
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [size_category(len(made.table))],
        "tags": [tag for tag in tags if own.get(tag, True)],
        "configs": [{"config_name": "default", "data_files": [files]}],
    }
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _labels(inputs: Inputs, kept: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Attribute, threshold, share of 1 among the kept images, and the labeler's own F1."""
    rows = []
    for name in inputs.attributes:
        f1 = ((inputs.labeler.card.scores or {}).get(name) or {}).get("f1")
        rows.append((name, _threshold(inputs, name), _number(kept[name].mean()), _number(f1)))
    return rows


def _threshold(inputs: Inputs, name: str) -> str:
    """One number, or two with a gap between them; "none" where a label is never given."""
    rule = inputs.policy.rules.get(name)
    if rule is None:
        return _number(inputs.labeler.thresholds.get(name))
    if rule.doubt:
        return "none"
    if rule.present == rule.absent and rule.present is not None:
        return _number(rule.present)
    return ", ".join("none" if cut is None else _number(cut) for cut in (rule.present, rule.absent))


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _line(value: object) -> str:
    """Text in one line, its own full stop left out."""
    return " ".join(str(value).split()).rstrip(".")


def _escaped(value: object) -> str:
    """`_line` that no Markdown reader takes for markup; underscores inside words need no escape."""
    text = re.sub(r"([\\`*\[\]|~$#!]|(?<!\w)_|_(?!\w))", r"\\\1", _line(value))
    return html.escape(text, quote=False)
