"""Train a labeler on the real rows of a table: the chain's attribute classifier, made by yourself.

    python recipes/train_labeler.py DATA --out FOLDER [--train.architecture resnet34 ...]

Fits on train, picks weights and F1-optimal thresholds on val, and writes `model.safetensors` and
`card.json`, which `--labeler FOLDER` of the other recipes and `labeling.load_labeler` take. The
card of the shipped one for avatars has the command that made it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from lightning.fabric import Fabric

from classify import FitConfig, attribute_columns, labelled_attributes, load_table
from labeling import Predictor
from recipes._command import refused_in_one_line, run
from recipes._labeler import train_labeler


def main(arguments: Sequence[str] | None = None) -> Predictor:
    """Train it; see the module's text."""
    parser = ArgumentParser(
        exit_on_error=False, description="Train a labeler on the real rows of a table."
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    parser.add_argument("data", type=Path, help="CelebA's folder, or a folder with metadata.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--attributes", nargs="+", default=None, help="columns to learn; all by default"
    )
    parser.add_argument(
        "--licence", type=str, default="as the data's", help="of the weights, for the card"
    )
    parser.add_argument(
        "--skip_bad", action="store_true", help="leave out images that do not decode"
    )
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_class_arguments(FitConfig, "train")
    with refused_in_one_line():
        options = parser.instantiate(parser.parse_args(arguments))
    table = load_table(options.data, options.attributes)
    attributes = labelled_attributes(table, options.attributes or attribute_columns(table))
    fabric = Fabric(devices=1)
    fabric.launch()
    labeler = train_labeler(
        table,
        attributes,
        options.out,
        config=options.train,
        source=str(options.data),
        licence=options.licence,
        command=shlex.join(["python", *sys.argv]),
        fabric=fabric,
        skip_bad=options.skip_bad,
        half=options.half,
    )
    scores = (labeler.card.scores or {}).values()
    judged = [row["f1"] for row in scores if row["f1"] is not None]
    mean = f"{sum(judged) / len(judged):.3f}" if judged else "not estimable"
    print(f"{options.out}: macro F1 {mean} on val over {len(judged)} attributes")
    return labeler


if __name__ == "__main__":
    run(main)
