"""Source `synthetic`: users with tastes, their choices, and the exact probabilities of the choices."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.catalog.params import IngestParams, SyntheticParams
from sidflow.catalog.raw import RawCatalog, Truth
from sidflow.catalog.synthetic.drawing import draw_product, product_truth
from sidflow.catalog.synthetic.products import Grammar, Products, read_grammar, sample_products, write_item_texts

PERIOD_START = 1_600_000_000  # seconds UTC: start of the observed period
PERIOD_SECONDS = 365 * 86_400  # its length
UNTIED_EVENTS = 3  # events before those with true probabilities that share no second either: their order is exact
BLOCK_SCORES = 2_000_000  # users times products whose scores are in memory at once
RECENCY_WEIGHTS = (1.0, 0.4)  # of the last event and the one before it


class SyntheticUsers(NamedTuple):
    """The latent attributes of every user; row u is user u."""

    keys: list[str]
    taste: np.ndarray  # float64 [u, styles], sum 1
    hue: np.ndarray  # float64 [u], degrees
    length: np.ndarray  # int64 [u], number of events
    seconds: np.ndarray  # int64 [u, longest], times of the events; not decreasing


def sample_users(styles: int, params: SyntheticParams, rng: np.random.Generator) -> SyntheticUsers:
    """Return sampled users; the order of draws is part of the catalogue's definition."""
    users = params.users
    extra = rng.gamma(1.3, (params.mean_length - 6) / 1.3, users)
    length = (6 + np.floor(extra)).astype(np.int64).clip(6, min(120, params.items // 3))
    longest = int(length.max())
    gaps = rng.exponential(1.0, (users, longest)) * rng.uniform(0.2, 1.0, users)[:, None]
    basket = rng.random((users, longest)) < params.basket_share
    untied = np.arange(longest)[None, :] >= (length - UNTIED_EVENTS - params.truth_positions)[:, None]
    gaps = np.where(basket & ~untied, 0.0, np.maximum(gaps, 1e-3))
    start = rng.uniform(0, 0.85, users)
    span = (1 - start) * rng.uniform(0.4, 1.0, users)
    elapsed = np.cumsum(gaps, axis=1)
    total = np.take_along_axis(elapsed, (length - 1)[:, None], axis=1)
    time = start[:, None] + span[:, None] * (elapsed / total).clip(max=1.0)
    seconds = PERIOD_START + np.floor(time * PERIOD_SECONDS).astype(np.int64)
    shift = np.cumsum(np.where(untied, 1, 0), axis=1)  # keeps untied events at least a second apart after rounding
    return SyntheticUsers(
        keys=[f"U{number:06d}" for number in rng.permutation(users) + 1],
        taste=rng.dirichlet(np.full(styles, 0.35), users),
        hue=rng.uniform(0, 360, users),
        length=length,
        seconds=seconds + shift,
    )


class ChoiceModel:
    """P(next product | user, last two events, time): the model that users choose by, and the oracle ranks by."""

    def __init__(self, grammar: Grammar, products: Products, users: SyntheticUsers, params: SyntheticParams) -> None:
        self._products, self._users, self._params = products, users, params
        log_transitions = np.log(grammar.transitions())
        self._log_transitions = log_transitions[:, products.category]  # [categories, n], of each product's category
        self._popular = params.popularity * np.log(products.demand)
        self._release = PERIOD_START + np.floor(products.release * PERIOD_SECONDS).astype(np.int64)

    def probabilities(self, user: np.ndarray, recent: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return probabilities over all products, float64 [q, n], the history included.

        Args:
            user: int [q].
            recent: int [q, 2], the last two items, the latest in the last column, -1 where there is none.
            second: int [q], the time of each choice; unreleased products have probability 0.
        """
        score = self._preferences(user)
        self._add_context(score, recent, second)
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    def _preferences(self, user: np.ndarray) -> np.ndarray:
        """Return the log scores that do not depend on time or history, float64 [q, n]."""
        products, users, params = self._products, self._users, self._params
        user_angle, angle = np.deg2rad(users.hue[user]), np.deg2rad(products.hue)
        score = self._popular + params.taste * (users.taste[user] @ products.style.T)
        hue_similarity = np.outer(np.cos(user_angle), np.cos(angle)) + np.outer(np.sin(user_angle), np.sin(angle))
        return score + params.colour * hue_similarity

    def _add_context(self, score: np.ndarray, recent: np.ndarray, second: np.ndarray) -> None:
        """Add the effect of the last events to `score`, and set unreleased products to -inf, in place."""
        products, params = self._products, self._params
        for lag, weight in enumerate(RECENCY_WEIGHTS, start=1):
            rows = np.flatnonzero(recent[:, -lag] >= 0)
            last = recent[rows, -lag]
            score[rows] += weight * params.transition * self._log_transitions[products.category[last]]
            for column in range(products.companion.shape[1]):
                score[rows, products.companion[last, column]] += weight * params.companion
        late = np.flatnonzero(self._release > PERIOD_START)
        row, column = np.nonzero(second[:, None] < self._release[None, late])
        score[row, late[column]] = -np.inf

    def sample_histories(self, rng: np.random.Generator) -> np.ndarray:
        """Return every user's sampled products in order, each once: int64 [users, longest], -1 after the last."""
        users, n = self._users, len(self._products.keys)
        count, longest = users.seconds.shape
        histories = np.full((count, longest), -1, dtype=np.int64)
        block = max(1, BLOCK_SCORES // n)
        for begin in range(0, count, block):
            rows = np.arange(begin, min(begin + block, count))
            preference = self._preferences(rows)
            for t in range(longest):
                active = np.flatnonzero(t < users.length[rows])
                if not len(active):
                    break
                active_users = rows[active]
                score = preference[active]
                self._add_context(score, last_two_items(histories, active_users, t), users.seconds[active_users, t])
                choice = (score + rng.gumbel(size=score.shape)).argmax(axis=1)
                histories[active_users, t] = choice
                preference[active, choice] = -np.inf
        return histories

    def truth(self, histories: np.ndarray, user: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return the probabilities of the choice at `position`, float64 [q, n]: zero for the history, sum 1."""
        recent = last_two_items(histories, user, position)
        probabilities = self.probabilities(user, recent, self._users.seconds[user, position])
        row, column = np.nonzero(np.arange(histories.shape[1])[None, :] < position[:, None])
        probabilities[row, histories[user[row], column]] = 0
        return probabilities / probabilities.sum(axis=1, keepdims=True)


def last_two_items(histories: np.ndarray, user: np.ndarray, position: np.ndarray | int) -> np.ndarray:
    """Return the two items before `position`, the latest last, -1 where there is none, int64 [q, 2]."""
    position = np.broadcast_to(position, user.shape)
    return np.stack(
        [np.where(position >= lag, histories[user, np.maximum(position - lag, 0)], -1) for lag in (2, 1)], axis=1
    )


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
    item_truth = {
        key: product_truth(grammar, products, row, [params.seed, 4, row]) for row, key in enumerate(products.keys)
    }
    return RawCatalog(events=events, items=texts, pictures=pictures, truth=truth, item_truth=item_truth)
