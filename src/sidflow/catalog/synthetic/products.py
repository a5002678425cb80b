"""Products of the synthetic catalogue: grammar, latent category, style, colour, companions, texts."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from sidflow.catalog.params import SyntheticParams
from sidflow.catalog.raw import items_frame_of_rows
from sidflow.core.errors import InputError
from sidflow.core.files import note_read
from sidflow.core.params import Params, read_yaml_mapping, validate_params

TEMPLATE_NAMES = ("noun", "style", "style2", "mood", "use", "care", "brand", "material", "colour", "size")
Text = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, le=1000)]  # beside the weight 1 that the rest of the shop shares
LATE_DEMAND = 2.0  # least demand of a late product, relative to the 80th percentile of all


class Style(Params):
    """A style: its words, and the colours and patterns of its pictures."""

    words: list[Text] = Field(min_length=1)
    moods: list[Text] = Field(min_length=1)
    patterns: list[Text] = Field(min_length=1)
    hue: float = Field(ge=0, lt=360)
    saturation: float = Field(ge=0, le=1)
    brightness: float = Field(ge=0, le=1)


class Category(Params):
    """A category: its words, and the weights of the categories that follow it."""

    department: Text
    nouns: list[Text] = Field(min_length=1)
    materials: list[Text] = Field(min_length=1)
    uses: list[Text] = Field(min_length=1)
    then: dict[str, Weight] = Field(default_factory=dict)


class Grammar(Params):
    """The grammar of products: styles, colours, brands, categories, and the templates of texts."""

    titles: list[Text] = Field(min_length=1)
    descriptions: list[Text] = Field(min_length=1)
    care: list[Text] = Field(min_length=1)
    sizes: list[Text] = Field(min_length=1)
    styles: dict[str, Style] = Field(min_length=2)
    colours: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)
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
        InputError: the file is absent, is not YAML, refers to a style or category that it does not define, or has an
            empty name or a template that cannot be filled in.
    """
    note_read(path)
    remedy = "set ingest.path to the project's presets/grammar.yaml, or repair the grammar"
    try:
        content = read_yaml_mapping(path)
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
    if "" in grammar.colours or "" in grammar.brands:
        raise InputError(str(path), expected="a name of every colour and brand", found="an empty one", remedy=remedy)
    wrong = [template for template in (*grammar.titles, *grammar.descriptions) if not _can_be_filled(template)]
    if wrong:
        raise InputError(
            str(path),
            expected=f"templates with names in braces, of {', '.join(TEMPLATE_NAMES)}",
            found="other braces",
            count=len(wrong),
            example=wrong[0],
            remedy=f"{remedy}; a brace of the text is written twice",
        )
    return grammar


def _can_be_filled(template: str) -> bool:
    """Return whether a template's braces hold names of `TEMPLATE_NAMES`, without format or conversion."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return False
    return all(name is None or (name in TEMPLATE_NAMES and not form and not to) for _, name, form, to in parts)


class Products(NamedTuple):
    """The latent attributes of every product; row i is product i."""

    keys: list[str]
    category: np.ndarray  # int64 [n]
    style: np.ndarray  # float64 [n, styles], mixture weights with sum 1
    first: np.ndarray  # int64 [n], the dominant style
    second: np.ndarray  # int64 [n], the other style
    hue: np.ndarray  # float64 [n], degrees
    demand: np.ndarray  # float64 [n], popularity among all users, sum 1
    release: np.ndarray  # float64 [n], as a share of the observed period, in [0, 1)
    companion: np.ndarray  # int64 [n, 2], the products that are often chosen after it
    has_picture: np.ndarray  # bool [n]
    has_text: np.ndarray  # bool [n]


def sample_products(grammar: Grammar, params: SyntheticParams, rng: np.random.Generator) -> Products:
    """Return sampled products; the order of draws is part of the catalogue's definition."""
    n, styles, categories = params.items, len(grammar.styles), len(grammar.categories)
    category = rng.permutation(np.arange(n) % categories)
    first = rng.permutation(np.arange(n) % styles)
    second = (first + rng.integers(1, styles, n)) % styles
    strength = rng.uniform(0.62, 0.95, n)
    style = np.zeros((n, styles))
    style[np.arange(n), first] = strength
    style[np.arange(n), second] = 1 - strength
    centre = np.array([grammar_style.hue for grammar_style in grammar.styles.values()])
    own_palette = rng.random(n) < 0.6
    hue = np.where(own_palette, centre[first] + rng.normal(0, 25, n), rng.uniform(0, 360, n)) % 360
    demand = 1.0 / (rng.permutation(n) + 12.0) ** 0.9
    unwanted = rng.random(n) < params.unwanted_share
    demand = np.where(unwanted, demand.min() * 1e-3, demand)
    late = (rng.random(n) < params.late_share) & ~unwanted
    demand = np.where(late, np.maximum(demand, np.quantile(demand, 0.8)) * LATE_DEMAND, demand)
    release = np.where(late, rng.uniform(0.78, 0.985, n), rng.uniform(-0.4, 0.3, n)).clip(0)
    return Products(
        keys=[f"P{number:05d}" for number in rng.permutation(n) + 1],
        category=category,
        style=style,
        first=first,
        second=second,
        hue=hue,
        demand=demand / demand.sum(),
        release=release,
        companion=_companions(grammar, category, style, hue, rng),
        has_picture=rng.random(n) >= params.pictureless_share,
        has_text=rng.random(n) >= params.textless_share,
    )


def _companions(
    grammar: Grammar, category: np.ndarray, style: np.ndarray, hue: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return two products that often follow each one: of a likely next category and a similar style, int64 [n, 2]."""
    transitions = grammar.transitions()
    angle = np.deg2rad(hue)
    score = np.log(transitions[category][:, category]) + 4 * (style @ style.T) + np.cos(angle[:, None] - angle[None, :])
    score += rng.gumbel(size=score.shape)
    np.fill_diagonal(score, -np.inf)
    return np.argsort(-score, axis=1, kind="stable")[:, :2]


def write_item_texts(grammar: Grammar, products: Products, rng: np.random.Generator) -> pl.DataFrame:
    """Return the items frame with every product's text; a product without text has its key alone."""
    styles, categories = list(grammar.styles), list(grammar.categories)
    rows = []
    for i, key in enumerate(products.keys):
        category_name = categories[products.category[i]]
        category, style = grammar.categories[category_name], grammar.styles[styles[products.first[i]]]
        second_style = grammar.styles[styles[products.second[i]]]
        matching = [brand for brand, brand_style in grammar.brands.items() if brand_style == styles[products.first[i]]]
        brand = _pick(matching if matching and rng.random() < 0.8 else list(grammar.brands), rng)
        material, colour = _pick(category.materials, rng), grammar.colour_of(products.hue[i])
        size = _pick(grammar.sizes, rng)
        fields = {
            "noun": _pick(category.nouns, rng),
            "style": _pick(style.words, rng),
            "style2": _pick(second_style.words, rng),
            "mood": _pick(style.moods, rng),
            "use": _pick(category.uses, rng),
            "care": _pick(grammar.care, rng),
        } | {"brand": brand, "material": material, "colour": colour, "size": size}
        title = _pick(grammar.titles, rng).format(**fields)
        text = _pick(grammar.descriptions, rng).format(**fields)
        has_text = bool(products.has_text[i])
        rows.append(
            {
                "item_key": key,
                "title": title[0].upper() + title[1:] if has_text else "",
                "description": text if has_text else "",
                "brand": brand if has_text else "",
                "categories": [category.department, category_name] if has_text else [],
                "attributes": [{"name": "material", "value": material}, {"name": "size", "value": size}]
                if has_text
                else [],
            }
        )
    return items_frame_of_rows(rows)


def _pick(choices: list[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
