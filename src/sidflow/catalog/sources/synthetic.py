"""Source `synthetic`: a catalogue generated from `presets/grammar.yaml`, with true next-item probabilities."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from sidflow.catalog.params import IngestParams
from sidflow.catalog.raw import RawCatalog, Truth
from sidflow.catalog.shop.drawing import draw_product
from sidflow.catalog.shop.grammar import read_grammar
from sidflow.catalog.shop.products import sample_products, write_item_texts
from sidflow.catalog.shop.shoppers import ChoiceModel, sample_users


def read_synthetic(path: Path, params: IngestParams) -> RawCatalog:
    """Return the synthetic catalogue of `ingest.seed`; each part has a random stream of its own."""
    size = params.synthetic
    grammar = read_grammar(path)
    streams = [np.random.default_rng([params.seed, part]) for part in range(4)]
    products = sample_products(grammar, size, streams[0])
    texts = write_item_texts(grammar, products, streams[1])
    users = sample_users(len(grammar.styles), size, streams[2])
    choices = ChoiceModel(grammar, products, users, size)
    histories = choices.sample_histories(streams[3])
    user, position = np.nonzero(histories >= 0)
    events = pl.DataFrame(
        {
            "user": pl.Series(users.keys).gather(user),
            "item": pl.Series(products.keys).gather(histories[user, position]),
            "timestamp": users.seconds[user, position],
        }
    )
    user_row = {key: row for row, key in enumerate(users.keys)}
    item_row = {key: row for row, key in enumerate(products.keys)}

    def probabilities_of(user_keys: list[str], item_keys: list[str]) -> np.ndarray:
        rows = np.array([user_row[key] for key in user_keys], dtype=np.int64)
        items = np.array([item_row[key] for key in item_keys], dtype=np.int64)
        return choices.truth(histories, rows, (histories[rows] == items[:, None]).argmax(axis=1))

    pictures = {
        key: partial(draw_product, grammar, products, row, size.picture_side, [params.seed, 4, row])
        for row, key in enumerate(products.keys)
        if products.has_picture[row]
    }
    truth = Truth(size.truth_positions, products.keys, probabilities_of)
    return RawCatalog(events=events, items=texts, pictures=pictures, truth=truth)
