"""The products of the synthetic shop: latent category, style and colour, and the words that speak of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.catalog.params import SyntheticParams
from sidflow.catalog.raw import words
from sidflow.catalog.shop.grammar import Grammar

LAUNCH = 2.0  # a late product is advertised: it is wanted so much more than a well-known one


class Products(NamedTuple):
    """The latent side of every product; row i is the shop's i-th product."""

    keys: list[str]
    category: np.ndarray  # int64 [n]
    style: np.ndarray  # float64 [n, styles], mixture weights with sum 1
    first: np.ndarray  # int64 [n], the style that dominates
    second: np.ndarray  # int64 [n], the one that it mixes with
    hue: np.ndarray  # float64 [n], degrees
    demand: np.ndarray  # float64 [n], how much it is wanted by everybody, sum 1
    release: np.ndarray  # float64 [n], in [0, 1) of the shop's life
    companion: np.ndarray  # int64 [n, 2], the products that go with it
    pictured: np.ndarray  # bool [n]
    worded: np.ndarray  # bool [n]


def make(grammar: Grammar, params: SyntheticParams, rng: np.random.Generator) -> Products:
    """Draw the products."""
    n, styles, categories = params.items, len(grammar.styles), len(grammar.categories)
    category = rng.permutation(np.arange(n) % categories)
    first = rng.permutation(np.arange(n) % styles)
    second = (first + rng.integers(1, styles, n)) % styles
    strength = rng.uniform(0.62, 0.95, n)
    style = np.zeros((n, styles))
    style[np.arange(n), first] = strength
    style[np.arange(n), second] = 1 - strength
    centre = np.array([look.hue for look in grammar.styles.values()])
    own_palette = rng.random(n) < 0.6
    hue = np.where(own_palette, centre[first] + rng.normal(0, 25, n), rng.uniform(0, 360, n)) % 360
    demand = 1.0 / (rng.permutation(n) + 12.0) ** 0.9
    unwanted = rng.random(n) < params.unwanted_share
    demand = np.where(unwanted, demand.min() * 1e-3, demand)
    late = (rng.random(n) < params.late_share) & ~unwanted
    demand = np.where(late, np.maximum(demand, np.quantile(demand, 0.8)) * LAUNCH, demand)
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
        pictured=rng.random(n) >= params.pictureless_share,
        worded=rng.random(n) >= params.textless_share,
    )


def _companions(
    grammar: Grammar, category: np.ndarray, style: np.ndarray, hue: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Give every product two that are often bought after it: a likely next category, a like style."""
    step = grammar.transitions()
    angle = np.deg2rad(hue)
    score = np.log(step[category][:, category]) + 4 * (style @ style.T) + np.cos(angle[:, None] - angle[None, :])
    score += rng.gumbel(size=score.shape)
    np.fill_diagonal(score, -np.inf)
    return np.argsort(-score, axis=1, kind="stable")[:, :2]


def describe(grammar: Grammar, products: Products, rng: np.random.Generator) -> pl.DataFrame:
    """Write every product's words; one without words keeps its key alone."""
    styles, categories = list(grammar.styles), list(grammar.categories)
    rows = []
    for i, key in enumerate(products.keys):
        name = categories[products.category[i]]
        category, style = grammar.categories[name], grammar.styles[styles[products.first[i]]]
        other = grammar.styles[styles[products.second[i]]]
        fitting = [brand for brand, lean in grammar.brands.items() if lean == styles[products.first[i]]]
        brand = _pick(fitting if fitting and rng.random() < 0.8 else list(grammar.brands), rng)
        material, colour = _pick(category.materials, rng), grammar.colour_of(products.hue[i])
        size = _pick(grammar.sizes, rng)
        filling = {
            "noun": _pick(category.nouns, rng),
            "style": _pick(style.words, rng),
            "style2": _pick(other.words, rng),
            "mood": _pick(style.moods, rng),
            "use": _pick(category.uses, rng),
            "care": _pick(grammar.care, rng),
        } | {"brand": brand, "material": material, "colour": colour, "size": size}
        title = _pick(grammar.titles, rng).format(**filling)
        text = _pick(grammar.descriptions, rng).format(**filling)
        shown = bool(products.worded[i])
        rows.append(
            {
                "item_key": key,
                "title": title[0].upper() + title[1:] if shown else "",
                "description": text if shown else "",
                "brand": brand if shown else "",
                "categories": [category.department, name] if shown else [],
                "attributes": [{"name": "material", "value": material}, {"name": "size", "value": size}]
                if shown
                else [],
            }
        )
    return words({name: [row[name] for row in rows] for name in rows[0]})


def _pick(choices: list[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
