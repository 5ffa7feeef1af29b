"""What a text-to-image generator is asked for: prompts, and what each says of the attributes.

    template: a photograph of {}
    Bald=1,Male=1: a bald man
    Eyeglasses=1: [a woman with eyeglasses, a child with eyeglasses]
    negative_prompt: a drawing

A text file has one prompt per line, which say nothing of attributes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augment import Denoiser, load_denoiser
from augment.noise import uniform_labels
from augment.selection import parse_wish
from classify.names import one_of
from recipes.chain.command.values import read_mapping
from recipes.chain.settings.targets import Plan

__all__ = ["Prompts", "load_with_prompts"]

_TEMPLATE, _NEGATIVE = "template", "negative_prompt"


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts in the order of their classes."""

    texts: Sequence[str]
    wishes: Sequence[Mapping[str, int]]
    """What each states, attribute -> 1 or 0; empty for one that states nothing."""
    negative: str | None = None
    """What all images are guided away from; None for no prompt."""

    @classmethod
    def read(cls, path: Path) -> Prompts:
        """The prompts of a YAML file, wish -> prompt or prompts, or of a text file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no such file, or has no prompt.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"prompts {path} is missing; give a text file with one per line, or a YAML file of "
                "wish: prompt"
            )
        is_yaml = path.suffix in (".yaml", ".yml")
        content = dict(read_mapping(path)) if is_yaml else {}
        negative = content.pop(_NEGATIVE, None)
        if negative is not None and not isinstance(negative, str):
            raise ValueError(f"prompts {path} has the {_NEGATIVE} {negative!r}; give a text")
        pairs = _of_yaml(path, content) if is_yaml else _of_lines(path)
        if not pairs or not all(text.strip() for _, text in pairs):
            raise ValueError(f"prompts {path} has an empty prompt or none; give each some text")
        return cls(
            texts=[text.strip() for _, text in pairs],
            wishes=[parse_wish(wish) if wish else {} for wish, _ in pairs],
            negative=negative,
        )

    def check(self, attributes: Sequence[str]) -> None:
        """Refuse prompts that state what is no attribute.

        Raises:
            ValueError: an unknown one.
        """
        for name in (name for wish in self.wishes for name in wish):
            if name not in attributes:
                raise ValueError(f"prompts name {name}; {one_of(name, attributes)}")

    def plan(self, label: int | None = None) -> Plan:
        """What the image of each seed was asked to be: by the prompt that its seed draws, or by
        that of one class for all.
        """

        def wish(seed: int) -> Mapping[str, int]:
            drawn = int(uniform_labels([seed], len(self.texts))[0])
            return self.wishes[drawn if label is None else label]

        stated = repr((list(self.texts), [dict(wish) for wish in self.wishes], label))
        return Plan(wish=wish, identity=hashlib.sha256(stated.encode()).hexdigest()[:16])


def load_with_prompts(generator: str, prompts: Prompts | None) -> Denoiser:
    """A generator, with the prompts that a text-to-image model needs and others have none of.

    Raises:
        FileNotFoundError, ValueError: as `load_denoiser`.
    """
    if prompts is None:
        return load_denoiser(generator)
    return load_denoiser(generator, prompts=prompts.texts, negative_prompt=prompts.negative)


def _of_yaml(path: Path, content: dict[str, Any]) -> list[tuple[str, str]]:
    template = content.pop(_TEMPLATE, "{}")
    if not isinstance(template, str) or "{}" not in template:
        raise ValueError(
            f"prompts {path} has the template {template!r}; give a text with {{}}, where each "
            "prompt comes in"
        )
    pairs = []
    for wish, texts in content.items():
        for text in texts if isinstance(texts, list) else [texts]:
            if not isinstance(text, str):
                raise ValueError(f"prompts {path} has {text!r} for {wish}; give a text")
            pairs.append((str(wish), template.replace("{}", text)))
    return pairs


def _of_lines(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts {path} is no UTF-8 text; give one prompt per line") from error
    return [("", line) for line in lines if line.strip()]
