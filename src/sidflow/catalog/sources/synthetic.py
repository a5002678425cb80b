"""Source `synthetic`: the shop of `presets/grammar.yaml`, whose true next-item probabilities are known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from sidflow.catalog.params import IngestParams
from sidflow.catalog.raw import RawCatalog, Truth
from sidflow.catalog.shop import drawing, grammar, products, shoppers


def read(path: Path, params: IngestParams) -> RawCatalog:
    """Build the shop from `ingest.seed`: each part of it from a stream of its own."""
    size = params.synthetic
    lexicon = grammar.read(path)
    streams = [np.random.default_rng([params.seed, part]) for part in range(4)]
    goods = products.make(lexicon, size, streams[0])
    texts = products.describe(lexicon, goods, streams[1])
    people = shoppers.make(len(lexicon.styles), size, streams[2])
    behaviour = shoppers.Behaviour(lexicon, goods, people, size)
    taken = behaviour.act(streams[3])
    user, position = np.nonzero(taken >= 0)
    events = pl.DataFrame(
        {
            "user": pl.Series(people.keys).gather(user),
            "item": pl.Series(goods.keys).gather(taken[user, position]),
            "timestamp": people.seconds[user, position],
        }
    )
    user_at = {key: row for row, key in enumerate(people.keys)}
    item_at = {key: row for row, key in enumerate(goods.keys)}

    def behind(user_keys: list[str], item_keys: list[str]) -> np.ndarray:
        who = np.array([user_at[key] for key in user_keys], dtype=np.int64)
        what = np.array([item_at[key] for key in item_keys], dtype=np.int64)
        return behaviour.truth(taken, who, (taken[who] == what[:, None]).argmax(axis=1))

    pictures = {
        key: partial(drawing.draw, lexicon, goods, row, size.picture_side, [params.seed, 4, row])
        for row, key in enumerate(goods.keys)
        if goods.pictured[row]
    }
    return RawCatalog(
        events=events, items=texts, pictures=pictures, truth=Truth(size.truth_positions, goods.keys, behind)
    )
