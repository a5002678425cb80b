"""The users of the synthetic shop: tastes, visits, and the exact probabilities behind every choice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sidflow.catalog.params import SyntheticParams
from sidflow.catalog.shop.grammar import Grammar
from sidflow.catalog.shop.products import Products

OPENED = 1_600_000_000  # seconds UTC: the day the shop opened
LIFE = 365 * 86_400  # seconds: how long it is observed
CALM = 3  # so many events before the ones with a known truth share no second either: their order is the generator's
CELLS = 2_000_000  # users times products whose scores are held at once
RECENT = (1.0, 0.4)  # how much the last and the last but one event pull


class Shoppers(NamedTuple):
    """The latent side of every user; row u is the shop's u-th user."""

    keys: list[str]
    taste: np.ndarray  # float64 [u, styles], sum 1
    hue: np.ndarray  # float64 [u], degrees
    length: np.ndarray  # int64 [u], how many products the user takes
    seconds: np.ndarray  # int64 [u, longest], when; not decreasing


def make(styles: int, params: SyntheticParams, rng: np.random.Generator) -> Shoppers:
    """Draw the users."""
    users = params.users
    extra = rng.gamma(1.3, (params.mean_length - 6) / 1.3, users)
    length = (6 + np.floor(extra)).astype(np.int64).clip(6, min(120, params.items // 3))
    longest = int(length.max())
    gaps = rng.exponential(1.0, (users, longest)) * rng.uniform(0.2, 1.0, users)[:, None]
    basket = rng.random((users, longest)) < params.basket_share
    calm = np.arange(longest)[None, :] >= (length - CALM - params.truth_positions)[:, None]
    gaps = np.where(basket & ~calm, 0.0, np.maximum(gaps, 1e-3))
    start = rng.uniform(0, 0.85, users)
    span = (1 - start) * rng.uniform(0.4, 1.0, users)
    passed = np.cumsum(gaps, axis=1)
    whole = np.take_along_axis(passed, (length - 1)[:, None], axis=1)
    when = start[:, None] + span[:, None] * (passed / whole).clip(max=1.0)
    seconds = OPENED + np.floor(when * LIFE).astype(np.int64)
    late = np.cumsum(np.where(calm, 1, 0), axis=1)  # calm events are at least a second apart, whatever the rounding
    return Shoppers(
        keys=[f"U{number:06d}" for number in rng.permutation(users) + 1],
        taste=rng.dirichlet(np.full(styles, 0.35), users),
        hue=rng.uniform(0, 360, users),
        length=length,
        seconds=seconds + late,
    )


class Behaviour:
    """P(next product | user, last events, second): what the shop's users do, and what the oracle knows."""

    def __init__(self, grammar: Grammar, products: Products, shoppers: Shoppers, params: SyntheticParams) -> None:
        self._products, self._shoppers, self._params = products, shoppers, params
        step = np.log(grammar.transitions())
        self._step = step[:, products.category]  # [categories, n]: log P of each product's category
        self._popular = params.popularity * np.log(products.demand)
        self._release = OPENED + np.floor(products.release * LIFE).astype(np.int64)

    def probabilities(self, user: np.ndarray, recent: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return probabilities over all products, float64 [q, n], the history not yet excluded.

        Args:
            user: int [q].
            recent: int [q, 2], the last events, the latest in the last column, -1 where there is none.
            second: int [q], when the choice is made; what is not yet released has probability 0.
        """
        score = self._likings(user)
        self._add_moment(score, recent, second)
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    def _likings(self, user: np.ndarray) -> np.ndarray:
        """Return what users think of products at any time, float64 [q, n]."""
        products, shoppers, params = self._products, self._shoppers, self._params
        user_angle, angle = np.deg2rad(shoppers.hue[user]), np.deg2rad(products.hue)
        score = self._popular + params.taste * (shoppers.taste[user] @ products.style.T)
        near = np.outer(np.cos(user_angle), np.cos(angle)) + np.outer(np.sin(user_angle), np.sin(angle))
        return score + params.colour * near

    def _add_moment(self, score: np.ndarray, recent: np.ndarray, second: np.ndarray) -> None:
        """Add to `score` what the last events suggest, and take out what is not yet released."""
        products, params = self._products, self._params
        for back, pull in enumerate(RECENT, start=1):
            rows = np.flatnonzero(recent[:, -back] >= 0)
            last = recent[rows, -back]
            score[rows] += pull * params.transition * self._step[products.category[last]]
            for column in range(products.companion.shape[1]):
                score[rows, products.companion[last, column]] += pull * params.companion
        late = np.flatnonzero(self._release > OPENED)
        row, column = np.nonzero(second[:, None] < self._release[None, late])
        score[row, late[column]] = -np.inf

    def act(self, rng: np.random.Generator) -> np.ndarray:
        """Let every user choose, one product after the other, none twice: int64 [users, longest], -1 after the last."""
        shoppers, n = self._shoppers, len(self._products.keys)
        users, longest = shoppers.seconds.shape
        taken = np.full((users, longest), -1, dtype=np.int64)
        block = max(1, CELLS // n)
        for begin in range(0, users, block):
            rows = np.arange(begin, min(begin + block, users))
            liking = self._likings(rows)
            for t in range(longest):
                active = np.flatnonzero(t < shoppers.length[rows])
                if not len(active):
                    break
                who = rows[active]
                score = liking[active]
                self._add_moment(score, recent_events(taken, who, t), shoppers.seconds[who, t])
                choice = (score + rng.gumbel(size=score.shape)).argmax(axis=1)
                taken[who, t] = choice
                liking[active, choice] = -np.inf
        return taken

    def truth(self, taken: np.ndarray, user: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return what the choice at `position` was drawn from, float64 [q, n]: nothing twice, sum 1."""
        chance = self.probabilities(user, recent_events(taken, user, position), self._shoppers.seconds[user, position])
        row, column = np.nonzero(np.arange(taken.shape[1])[None, :] < position[:, None])
        chance[row, taken[user[row], column]] = 0
        return chance / chance.sum(axis=1, keepdims=True)


def recent_events(taken: np.ndarray, user: np.ndarray, position: np.ndarray | int) -> np.ndarray:
    """Return the two events before `position`, the latest last, -1 where there is none, int64 [q, 2]."""
    position = np.broadcast_to(position, user.shape)
    return np.stack(
        [np.where(position >= back, taken[user, np.maximum(position - back, 0)], -1) for back in (2, 1)], axis=1
    )
