import json
from itertools import pairwise

import numpy as np
import pytest

from sidflow.features.params import SpaceParams
from sidflow.features.tfidf import fit_text_space

pytestmark = pytest.mark.realdata


def test_neighbours_by_words_are_bought_together_more_than_chance(data_folder):
    folder = data_folder / "office-products"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    titles = [json.loads(line).get("title") or "" for line in (folder / "items.jsonl").open()]
    space = fit_text_space([(title,) for title in titles], SpaceParams(dim=64), seed=0)
    made = space.encode([(title,) for title in titles])
    assert made.present.mean() > 0.97
    steps = []
    for line in (folder / "sequences.jsonl").open():
        events = [int(item) for item in json.loads(line)["items"]]
        steps += [pair for pair in pairwise(events) if pair[0] != pair[1]]
    first, second = np.array(steps).T
    shuffled = np.random.default_rng(0).permutation(second)
    together = (made.values[first] * made.values[second]).sum(axis=1).mean()
    chance = (made.values[first] * made.values[shuffled]).sum(axis=1).mean()
    assert together > 3 * chance
