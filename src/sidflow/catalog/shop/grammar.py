"""The grammar of the synthetic catalogue: a YAML file with its words, styles, colours and categories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from sidflow.contracts import yamls
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import Params, validate_params
from sidflow.contracts.trace import note_read


class Style(Params):
    """A style: its words, and the colours and patterns of its pictures."""

    words: list[str] = Field(min_length=1)
    moods: list[str] = Field(min_length=1)
    patterns: list[str] = Field(min_length=1)
    hue: float = Field(ge=0, lt=360)
    saturation: float = Field(ge=0, le=1)
    brightness: float = Field(ge=0, le=1)


class Category(Params):
    """A category: its words, and the weights of the categories that follow it."""

    department: str
    nouns: list[str] = Field(min_length=1)
    materials: list[str] = Field(min_length=1)
    uses: list[str] = Field(min_length=1)
    then: dict[str, float] = Field(default_factory=dict)


class Grammar(Params):
    """The whole grammar."""

    titles: list[str] = Field(min_length=1)
    descriptions: list[str] = Field(min_length=1)
    care: list[str] = Field(min_length=1)
    sizes: list[str] = Field(min_length=1)
    styles: dict[str, Style] = Field(min_length=2)
    colours: dict[str, float] = Field(min_length=1)
    brands: dict[str, str] = Field(min_length=1)
    categories: dict[str, Category] = Field(min_length=2)

    def colour_of(self, hue: float) -> str:
        """Return the name of the colour nearest to `hue` (degrees)."""
        names = list(self.colours)
        distance = np.abs((np.array([self.colours[name] for name in names]) - hue + 180) % 360 - 180)
        return names[int(distance.argmin())]

    def transitions(self) -> np.ndarray:
        """Return P(next category | category), float64 [categories, categories]; never the same category again."""
        names = list(self.categories)
        weights = np.ones((len(names), len(names)))
        for row, name in enumerate(names):
            for other, weight in self.categories[name].then.items():
                weights[row, names.index(other)] += 3 * weight
        np.fill_diagonal(weights, 0.2)
        return weights / weights.sum(axis=1, keepdims=True)


def read_grammar(path: Path) -> Grammar:
    """Return the grammar in the file `path`.

    Raises:
        InputError: the file is absent, is not YAML, or refers to a style or category that it does not define.
    """
    note_read(path)
    remedy = "set ingest.path to the project's presets/grammar.yaml, or repair the grammar"
    try:
        content = yamls.read_yaml_mapping(path)
    except OSError as error:
        raise InputError(str(path), expected="a grammar in YAML", found=str(error.strerror), remedy=remedy) from error
    grammar = validate_params(content, Grammar, str(path), remedy)
    undefined = [style for style in grammar.brands.values() if style not in grammar.styles]
    undefined += [
        name for category in grammar.categories.values() for name in category.then if name not in grammar.categories
    ]
    if undefined:
        raise InputError(
            str(path),
            expected="brands and `then` to name styles and categories of the grammar",
            found="unknown names",
            count=len(undefined),
            example=undefined[0],
            remedy=remedy,
        )
    return grammar
