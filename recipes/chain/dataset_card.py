"""The card of a synthetic set: a Hugging Face dataset card beside its images and their table.

Whatever comes from elsewhere (names, sources, licences) is escaped: it cannot become markup.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from augment import admitted, keep_rates
from augment.selection import ADMISSION, BLANK, KEPT, LEAKS, MEMORISED, OFF_MANIFOLD, UNREADABLE
from classify.files import write_text

if TYPE_CHECKING:
    from recipes.chain.inputs import Inputs
    from recipes.chain.settings import RunConfig
    from recipes.chain.synthesis import Synthesised

__all__ = ["MARK", "dataset_card", "hub_licence", "size_category", "write_card"]

MARK = "---\n# Written by the run and renewed with it; take this line out to keep your own words.\n"
"""How a card of ours begins."""

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
    name, generator = _title(config, inputs, made), _generator(inputs, made)
    sections = {
        f"# {_escaped(name)}": _opening(made),
        "## How they were made": _origin(config, inputs, made),
        "## Labels": _label_lines(inputs, made),
        "## Columns of metadata.csv": _column_lines(inputs, made),
        "## Kept and rejected": _verdict_lines(made),
        "## Licence": _licence_lines(inputs, generator),
        "## Not for": _warnings(made),
    }
    body = [line for title, lines in sections.items() for line in (title, "", *lines, "")]
    licence = hub_licence(generator.get("licence"), inputs.labeler.card.licence)
    return "\n".join([_front_matter(name, made, licence), *body])


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
    kind = "Ordinary" if made.settings.guidance is None else "Minority"
    return f"{kind} samples of {_generator_name(config, inputs)}"


def _generator(inputs: Inputs, made: Synthesised) -> Mapping[str, Any]:
    """The card of what drew the images; nothing is known of images made elsewhere."""
    return inputs.denoiser.card if made.settings.folder is None else {}


def _generator_name(config: RunConfig, inputs: Inputs) -> str:
    """What the card calls it, else a hub id as it stands, a local path by its last part."""
    card, source = inputs.denoiser.card, config.generator
    path = Path(source)
    return _line(card.get("name") or card.get("known") or (path.name if path.exists() else source))


def _front_matter(name: str, made: Synthesised, licence: str) -> str:
    named = {"license_name": "as-generator-and-labeler"} if licence == "other" else {}
    tags = ["synthetic", "diffusion", "pseudo-labels", "minority"]
    absent = {
        "diffusion": made.settings.folder is not None,
        "minority": made.settings.guidance is None,
    }
    paths = [PurePosixPath(name) for name in made.table["file_name"]]
    patterns = {("**/" if len(p.parts) > 1 else "") + f"*{p.suffix}" for p in paths}
    fields = {
        "pretty_name": name,
        "license": licence,
        **named,
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [size_category(len(made.table))],
        "tags": [tag for tag in tags if not absent.get(tag)],
        # The table names every image, so the record beside them is never taken for data.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": [*sorted(patterns), "metadata.csv"]}],
            }
        ],
    }
    return f"{MARK}{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n"


def _opening(made: Synthesised) -> list[str]:
    drawn = "drawn by a diffusion model" if made.settings.folder is None else "made elsewhere"
    return [
        f"{len(made.table):,} images {drawn} and labelled by a classifier, to train "
        "classifiers beside real images. No camera took them, and no person labelled or chose "
        "them.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'images = load_dataset("imagefolder", data_dir={json.dumps(made.name)}, split="train")',
        f'kept = images.filter(lambda verdict: verdict == "{KEPT}", input_columns="{ADMISSION}")',
        "```",
    ]


def _origin(config: RunConfig, inputs: Inputs, made: Synthesised) -> Iterable[str]:
    settings, sampler = made.settings, made.settings.sampler
    if settings.folder is not None:
        yield (
            f"- Images: taken from the folder {_escaped(settings.folder.name)}. This run knows "
            "neither what made them nor on what that was trained."
        )
        return
    named = _escaped(_generator_name(config, inputs))
    yield f"- Generator: {named}. {_provenance(inputs.denoiser.card)}"
    eta = f", eta {sampler.eta}" if sampler.eta else ""
    yield f"- Sampler: {sampler.steps} steps, {sampler.solver}{eta}."
    if settings.start is not None:
        yield (
            f"- Start: images of {_escaped(settings.start.images.name)}, made anew with strength "
            f"{settings.start.strength} ([SDEdit](https://arxiv.org/abs/2108.01073))."
        )
    if settings.guidance is None:
        yield "- Guidance: none, these are the model's ordinary samples."
    else:
        fields = asdict(settings.guidance)
        if fields["budget"] is not None:
            del fields["scale"]  # it is not used
        listed = ", ".join(f"{key} {value}" for key, value in fields.items() if value is not None)
        yield (
            "- Guidance: self-guidance ([Um & Ye, ECCV 2024](https://arxiv.org/abs/2407.11555)) "
            f"towards images of low density: {listed}."
        )
    seeds = made.table["seed"]
    yield (
        f"- Seeds {seeds.min()} to {seeds.max()}. A file is named by its seed; its PNG text chunks "
        "hold the seed and all settings, which stand in `settings.json` too."
    )


def _provenance(card: Mapping[str, Any]) -> str:
    """Source, licence and hash of a model, in words."""
    source = card.get("url") or card.get("source") or "not stated"
    licence = card.get("licence") or "not stated"
    parts = [f"Source: {_escaped(source)}.", f"Licence: {_escaped(licence)}."]
    if card.get("sha256"):
        parts.append(f"SHA-256: {_escaped(card['sha256'])}.")
    return " ".join(parts)


def _label_lines(inputs: Inputs, made: Synthesised) -> Iterable[str]:
    card = inputs.labeler.card
    known = {"source": card.source, "licence": card.licence, "sha256": inputs.labeler.sha256}
    yield "Pseudo-labels: a network's guesses, with its errors. Nobody has corrected them."
    yield ""
    yield f"- Labeler: {_escaped(card.architecture)}. {_provenance(known)}"
    yield (
        "- A label is 1 from the threshold on and 0 below it, or below the second of two: between "
        "them the cell is empty. It is empty, too, where the labeler does not know the attribute."
    )
    if any(rule.n is not None for rule in inputs.policy.rules.values()):
        yield (
            "- Thresholds and temperatures were fitted on real validation images; `p_<attribute>` "
            "is the calibrated probability."
        )
    yield "- F1 is what the labeler's card says of its own validation images."
    yield ""
    kept, rows = admitted(made.table), []
    for name in inputs.attributes:
        f1 = ((card.scores or {}).get(name) or {}).get("f1")
        row = (_threshold(inputs, name), _number(kept[name].mean()), _number(f1))
        rows.append((_escaped(name), *row))
    yield from _table(("attribute", "threshold", "share of 1 among the kept", "F1"), rows)


def _threshold(inputs: Inputs, name: str) -> str:
    """One number, or two with a gap between them; "none" where a label is never given."""
    rule = inputs.policy.rules.get(name)
    if rule is None:
        return _number(inputs.labeler.thresholds.get(name))
    if rule.present == rule.absent and rule.present is not None:
        return _number(rule.present)
    return ", ".join("none" if cut is None else _number(cut) for cut in (rule.present, rule.absent))


def _column_lines(inputs: Inputs, made: Synthesised) -> list[str]:
    """What every column holds, those of the attributes as two kinds."""
    rows = [(f"`{name}`", COLUMNS[name]) for name in made.table.columns if name in COLUMNS]
    rows += [
        (
            "one column an attribute",
            f"1, 0 or empty: {', '.join(map(_escaped, inputs.attributes))}",
        ),
        ("`p_<attribute>`", "the labeler's probability of it, in [0, 1]"),
    ]
    return _table(("column", "content"), rows)


def _verdict_lines(made: Synthesised) -> list[str]:
    rates = keep_rates({made.name: made.table})
    rows = [
        (str(verdict), f"{count:,}", VERDICTS[str(verdict)])
        for verdict, count in zip(rates[ADMISSION], rates["images"], strict=True)
    ]
    return [
        "Rejected images are in the folder and the table too; take the rows with "
        f"`{ADMISSION}` {KEPT}. The run itself trained on {len(made.selection.table):,} of them.",
        "",
        *_table((ADMISSION, "images", "meaning"), rows),
        "",
        "Copies are found by their pixels, among the real images of this run only.",
    ]


def _licence_lines(inputs: Inputs, generator: Mapping[str, Any]) -> list[str]:
    return [
        "The set is no freer than what it was made with, and both models may be bound by the "
        "terms of the images they were trained on (CelebA's, for one: non-commercial research).",
        "",
        f"- Generator: {_escaped(generator.get('licence') or 'not stated')}.",
        f"- Labeler: {_escaped(inputs.labeler.card.licence)}.",
    ]


def _warnings(made: Synthesised) -> list[str]:
    lines = [
        "- Validation or test: a score on these images is agreement with the labeler, not truth.",
        "- Statistics: what is frequent here says how the generator was sampled, not how the world "
        "is.",
        "- Statements about persons: the pictures are of nobody, except where the generator "
        "repeats an image it was trained on, and a label is a fact about nobody.",
        "- Training without a look at the gain: whether these images helped the run's own "
        "classifiers is in its `report.html`.",
    ]
    if made.settings.guidance is not None and made.settings.guidance.distance == "features":
        lines.append(
            "- Judging the labeler: the guidance measured distance in its features, so it has had "
            "a part in what it then labelled."
        )
    return lines


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _line(value: object) -> str:
    """Text in one line, its own full stop left out."""
    return " ".join(str(value).split()).rstrip(".")


def _escaped(value: object) -> str:
    """`_line` that no Markdown reader takes for markup; underscores inside words need no escape."""
    text = re.sub(r"([\\`*\[\]|~$#!]|(?<!\w)_|_(?!\w))", r"\\\1", _line(value))
    return html.escape(text, quote=False)
