"""The Python API: a finished project, from any folder. docs/api.md has examples.

>>> import sidflow
>>> project = sidflow.Project.load("path/to/project")  # doctest: +SKIP
>>> project.recommend(user="U000001", k=5).items[0].title  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
import polars as pl

from sidflow.artifacts.catalog import ITEMS, USERS
from sidflow.artifacts.evaluation import PER_QUERY
from sidflow.artifacts.features import EMBEDDING, MODALITY
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.core.errors import InputError, closest_names
from sidflow.core.files import project_path, project_root
from sidflow.core.params import load_param, load_params
from sidflow.serving.history_encoders import EncodeHistory
from sidflow.serving.items import Item, Neighbour, SemanticId, SharedPrefix, describe_item
from sidflow.serving.leaderboard import leaderboard_rows
from sidflow.serving.new_items import assign_new_ids
from sidflow.serving.recommendations import (
    NamedItem,
    Recommendation,
    RecommendedItem,
    choose_recommender,
    recommend_after,
    recommend_to_user,
)

__all__ = [
    "InputError",
    "Item",
    "NamedItem",
    "Neighbour",
    "Project",
    "Recommendation",
    "RecommendedItem",
    "SemanticId",
    "SharedPrefix",
]

ARTIFACTS = Path("artifacts")


class Project:
    """A project whose pipeline has run. Every method reads artifacts; none writes any.

    Attributes:
        path: the project's root, absolute.
        preset: the preset in params.yaml.
        recommenders: names of all recommenders, in the order of params.yaml.
        modalities: names of all modalities, for example `collaborative`, `text`, `image`.
    """

    path: Path
    preset: str
    recommenders: list[str]
    modalities: list[str]

    def __init__(self, path: str | PathLike[str] = ".") -> None:
        """Read params.yaml and check that the catalogue exists; see `load`."""
        self.path = Path(path).expanduser().resolve()
        self._encoders: dict[str, EncodeHistory] = {}
        with self._root():
            params = load_params()
            ITEMS.metadata()
        self.preset = str(params.get("preset", ""))
        self.recommenders = [str(name) for name in params.get("recommenders") or []]
        self.modalities = [str(name) for name in params.get("modality") or {}]

    @classmethod
    def load(cls, path: str | PathLike[str] = ".") -> Project:
        """Return the project in a folder.

        Raises:
            InputError: the folder has no params.yaml or no catalogue.
        """
        return cls(path)

    def recommend(
        self,
        user: str | None = None,
        *,
        history: Sequence[str] | None = None,
        k: int = 10,
        recommender: str | None = None,
        include_cold: bool = False,
    ) -> Recommendation:
        """Return `k` items for a user of the catalogue, or after a new history.

        A user's list is the one that was evaluated. A new history is encoded by the trained model, which is loaded
        once and kept.

        Args:
            user: a user key.
            history: instead of `user`: item keys, oldest first.
            k: how many items, at least 1.
            recommender: its name; by default `mme_sid`, or the first one where the project has no such.
            include_cold: with `history`: rank items outside the core as well.

        Raises:
            InputError: a key or name is unknown, both or neither of `user` and `history` are given, the history is
                empty, or the recommender cannot answer.
        """
        if (user is None) == (history is None):
            raise InputError(
                "recommend",
                expected="either a user or a history",
                found="both" if user is not None else "neither",
                remedy="pass one of the two",
            )
        if k < 1:
            raise InputError("k", expected="an integer >= 1", found=str(k), remedy="ask for at least one item")
        if user is not None and include_cold:
            raise InputError(
                "cold items",
                expected="a history: a user's list is the evaluated one, over the core",
                found="a user",
                remedy="pass the keys of the user's items as a history",
            )
        with self._root():
            if user is not None:
                return recommend_to_user(user, k, recommender)
            return recommend_after(history or [], k, recommender, include_cold, self._encoders)

    def item(self, key: str) -> Item:
        """Return an item: its text, semantic IDs, embeddings and nearest neighbours.

        Raises:
            InputError: the catalogue has no item of this key.
        """
        with self._root():
            return describe_item(key)

    def semantic_ids(self) -> pl.DataFrame:
        """Return all semantic IDs: item_key, title, modality, codes (Array[Int32, levels]), suffix."""
        with self._root():
            items = ITEMS.read(columns=["item_id", "item_key", "title"])
            ids = SEMANTIC_IDS.read().join(items, on="item_id", maintain_order="left")
        return ids.select("item_key", "title", "modality", "codes", "suffix")

    def embeddings(self, modality: str) -> pl.DataFrame:
        """Return the items that have a modality: item_key, vector (Array[Float32, d]), as the quantizer reads them.

        Raises:
            InputError: the project has no such modality.
        """
        self._require_modality(modality)
        with self._root():
            arrays = MODALITY.read(name=modality).arrays
            return _keyed(arrays["values"], arrays["present"])

    def source_vectors(self, modality: str) -> pl.DataFrame:
        """Return the items that have a modality: item_key, vector (Array[Float32, d]), as its encoder wrote them.

        This is what `assign_new` takes. `embeddings` gives the same items after `normalise` and `dim`.

        Raises:
            InputError: the project has no such modality.
        """
        self._require_modality(modality)
        with self._root():
            arrays = EMBEDDING.read_from(project_path(Path(load_param(f"modality.{modality}.source")))).arrays
            return _keyed(arrays["values"], arrays["present"])

    def _require_modality(self, modality: str) -> None:
        if modality not in self.modalities:
            raise InputError(
                "modality",
                expected=closest_names(modality, self.modalities),
                found=modality,
                remedy="name one of these modalities",
            )

    def assign_new(self, vectors: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Return the project's semantic IDs followed by those of new items, which its quantizer encodes.

        Args:
            vectors: by modality, the columns item_key and vector, as the encoder of this project writes them. Items
                that have an ID keep it.

        Returns:
            The columns item_key, modality, codes, suffix, new.

        Raises:
            InputError: a modality is unknown, a row has no key, an item has several rows, or vectors are of another
                width or not finite.
        """
        with self._root():
            return assign_new_ids(ARTIFACTS, vectors)

    def leaderboard(self, metric: str | None = None) -> pl.DataFrame:
        """Return one row for each recommender, best first, references last, over the test part.

        Args:
            metric: for example `recall_at_10`; by default the primary metric of the comparison.

        Returns:
            The columns recommender, kind (`method`, `baseline`, `reference`), metric, mean, low, high (its interval;
            null where the metric needs ranks that a recommender does not give), and, against the best baseline, where
            compared: difference, difference_low, difference_high, relative_difference (a share of the baseline's
            mean), p_corrected, verdict.

        Raises:
            InputError: the leaderboard is absent, or has no such metric.
        """
        with self._root():
            rows = leaderboard_rows(metric)
        columns = [name for name in (rows[0] if rows else {}) if name not in ("is_best_baseline", "reason")]
        texts = ("recommender", "kind", "metric", "verdict")
        return pl.DataFrame(rows, schema={name: pl.String if name in texts else pl.Float64 for name in columns})

    def per_query(self, recommender: str) -> pl.DataFrame:
        """Return one row for each query: user_key, part (`valid`, `test`), rank of the target, candidates, and more.

        Raises:
            InputError: the project has no such recommender, or it was not evaluated.
        """
        with self._root():
            users = USERS.read()
            frame = PER_QUERY.read(model=choose_recommender(recommender)).join(
                users, on="user_id", maintain_order="left"
            )
        return frame.select("query_id", "user_key", pl.exclude("query_id", "user_key", "user_id"))

    def __repr__(self) -> str:
        """Return the project's folder and preset."""
        return f"Project({str(self.path)!r}, preset={self.preset!r})"

    @contextmanager
    def _root(self) -> Iterator[None]:
        with project_root(self.path):
            yield


def _keyed(values: np.ndarray, present: np.ndarray) -> pl.DataFrame:
    """Return item_key and vector of the items that are present, of the first items of the catalogue."""
    keys = ITEMS.read(columns=["item_id", "item_key"])["item_key"].head(len(present))
    vectors = pl.Series("vector", values, dtype=pl.Array(pl.Float32, values.shape[1]))
    return pl.DataFrame([keys, vectors]).filter(pl.Series(present))
