"""The card of a synthetic set: a Hugging Face dataset card beside its images and their table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from augment import admitted, keep_rates
from augment.admission import ADMISSION, KEPT
from classify.files import write_text
from labeling import Predictor
from recipes._card_words import COLUMNS, VERDICTS
from recipes._fill import Filled
from recipes._prepare import Chain
from recipes._settings import RunConfig

__all__ = ["MARK", "dataset_card", "hub_licence", "size_category", "write_card"]

MARK = "---\n# Written by the run and renewed with it; take this line out to keep your own words.\n"
"""How a card of ours begins."""

_HUB_LICENCES = ("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0")
"""Licences that the hub knows by the name that cards here give them."""
_SIZES = {3: "n<1K", 4: "1K<n<10K", 5: "10K<n<100K", 6: "100K<n<1M", 7: "1M<n<10M"}


def write_card(folder: Path, text: str) -> None:
    """Write `README.md` into the folder, unless one stands there that is not ours."""
    path = folder / "README.md"
    # Bytes, as somebody else's file need not be UTF-8.
    if not path.exists() or path.read_bytes().startswith(MARK.encode()):
        write_text(path, text)


def dataset_card(chain: Chain, arm: str, filled: Filled) -> str:
    """The card of one synthetic arm, front matter first.

    Args:
        chain: the run.
        arm: `plain` or `minority`.
        filled: the arm's images, labelled and judged, and what of them trains.
    """
    kind = "Minority" if arm == "minority" else "Ordinary"
    generator = chain.denoiser.card
    named = generator.get("name") or generator.get("known") or _named(chain.config.generator)
    name = f"{kind} samples of {_line(named)}"
    labels = _label_lines(chain, admitted(filled.table))
    sections = {
        f"# {name}": _opening(arm, len(filled.table)),
        "## How they were made": _origin(chain.config, arm, str(named), generator, filled.table),
        "## Labels": labels,
        "## Columns of metadata.csv": _column_lines(filled.table, chain.attributes),
        "## Kept and rejected": _verdict_lines(arm, filled),
        "## Licence": _licence_lines(generator, chain.labeler),
        "## Not for": _warnings(chain.config, arm),
    }
    body = [line for title, lines in sections.items() for line in (title, "", *lines, "")]
    licence = hub_licence(generator.get("licence"), chain.labeler.card.licence)
    return "\n".join([_front_matter(name, arm, licence, len(filled.table)), *body])


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


def _front_matter(name: str, arm: str, licence: str, count: int) -> str:
    named = {"license_name": "as-generator-and-labeler"} if licence == "other" else {}
    fields = {
        "pretty_name": name,
        "license": licence,
        **named,
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [size_category(count)],
        "tags": ["synthetic", "diffusion", "pseudo-labels", *(["minority"] * (arm == "minority"))],
        # The table names every image, so the record beside them is never taken for data.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": ["*.png", "metadata.csv"]}],
            }
        ],
    }
    return f"{MARK}{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n"


def _opening(arm: str, count: int) -> list[str]:
    return [
        f"{count:,} images drawn by a diffusion model and labelled by a classifier, to train "
        "classifiers beside real images. No camera took them, and no person labelled or chose "
        "them.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'images = load_dataset("imagefolder", data_dir="{arm}", split="train")',
        f'kept = images.filter(lambda verdict: verdict == "{KEPT}", input_columns="{ADMISSION}")',
        "```",
    ]


def _origin(
    config: RunConfig, arm: str, named: str, generator: Mapping[str, Any], table: pd.DataFrame
) -> list[str]:
    sampler = config.sampler
    eta = f", eta {sampler.eta}" if sampler.eta else ""
    guidance = "none, these are the model's ordinary samples"
    if arm == "minority":
        settings = config.record()["guidance"]
        if settings["budget"] is not None:
            del settings["scale"]  # it is not used
        listed = ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)
        guidance = (
            "self-guidance ([Um & Ye, ECCV 2024](https://arxiv.org/abs/2407.11555)) towards images "
            f"of low density: {listed}"
        )
    return [
        f"- Generator: {_line(named)}. {_provenance(generator)}",
        f"- Sampler: {sampler.steps} steps, {sampler.solver}{eta}.",
        f"- Guidance: {guidance}.",
        f"- Seeds {table['seed'].min()} to {table['seed'].max()}. A file is named by its seed; its "
        "PNG text chunks hold the seed and all settings, which stand in `settings.json` too.",
    ]


def _named(source: str) -> str:
    """A hub id as it stands, a local path by its last part."""
    return Path(source).name if Path(source).exists() else source


def _provenance(card: Mapping[str, Any]) -> str:
    """Source, licence and hash of a model, in words."""
    source = card.get("url") or card.get("source") or "not stated"
    parts = [f"Source: {_line(source)}.", f"Licence: {_line(card.get('licence') or 'not stated')}."]
    if card.get("sha256"):
        parts.append(f"SHA-256: {card['sha256']}.")
    return " ".join(parts)


def _label_lines(chain: Chain, kept: pd.DataFrame) -> Iterable[str]:
    card = chain.labeler.card
    known = {"source": card.source, "licence": card.licence, "sha256": chain.labeler.sha256}
    yield "Pseudo-labels: a network's guesses, with its errors. Nobody has corrected them."
    yield ""
    yield f"- Labeler: {_line(card.architecture)}. {_provenance(known)}"
    yield (
        "- A label is 1 from the threshold on and 0 below it, or below the second of two: between "
        "them the cell is empty. It is empty, too, where the labeler does not know the attribute."
    )
    if chain.policy is not None:
        yield (
            "- Thresholds and temperatures were fitted on real validation images; `p_<attribute>` "
            "is the calibrated probability."
        )
    yield "- F1 is what the labeler's card says of its own validation images."
    yield ""
    rows = []
    for name in chain.attributes:
        f1 = ((card.scores or {}).get(name) or {}).get("f1")
        rows.append((name, _threshold(chain, name), _number(kept[name].mean()), _number(f1)))
    yield from _table(("attribute", "threshold", "share of 1 among the kept", "F1"), rows)


def _threshold(chain: Chain, name: str) -> str:
    """One number, or two with a gap between them; "none" where a label is never given."""
    rule = None if chain.policy is None else chain.policy.rules.get(name)
    if rule is None:
        return _number(chain.labeler.thresholds.get(name))
    if rule.present == rule.absent and rule.present is not None:
        return _number(rule.present)
    return ", ".join("none" if cut is None else _number(cut) for cut in (rule.present, rule.absent))


def _column_lines(table: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """What every column holds, those of the attributes as two kinds."""
    rows = [(f"`{name}`", COLUMNS[name]) for name in table.columns if name in COLUMNS]
    rows += [
        ("one column an attribute", f"1, 0 or empty: {', '.join(attributes)}"),
        ("`p_<attribute>`", "the labeler's probability of it, in [0, 1]"),
    ]
    return _table(("column", "content"), rows)


def _verdict_lines(arm: str, filled: Filled) -> list[str]:
    rates = keep_rates({arm: filled.table})
    rows = [
        (str(verdict), f"{count:,}", VERDICTS[str(verdict)])
        for verdict, count in zip(rates[ADMISSION], rates["images"], strict=True)
    ]
    return [
        "Rejected images are in the folder and the table too; take the rows with "
        f"`{ADMISSION}` {KEPT}. The run itself trained on {len(filled.selection.table):,} of them.",
        "",
        *_table((ADMISSION, "images", "meaning"), rows),
        "",
        "Copies are found by their pixels, among the real images of this run only.",
    ]


def _licence_lines(generator: Mapping[str, Any], labeler: Predictor) -> list[str]:
    return [
        "The set is no freer than what it was made with, and both models may be bound by the "
        "terms of the images they were trained on (CelebA's, for one: non-commercial research).",
        "",
        f"- Generator: {_line(generator.get('licence') or 'not stated')}.",
        f"- Labeler: {_line(labeler.card.licence)}.",
    ]


def _warnings(config: RunConfig, arm: str) -> list[str]:
    lines = [
        "- Validation or test: a score on these images is agreement with the labeler, not truth.",
        "- Statistics: what is frequent here says how the generator was sampled, not how the world "
        "is.",
        "- Statements about persons: the pictures are of nobody, except where the generator "
        "repeats an image it was trained on, and a label is a fact about nobody.",
        "- Training without a look at the gain: whether these images helped the run's own "
        "classifiers is in its `report.html`.",
    ]
    if arm == "minority" and config.guidance.distance == "features":
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
