"""The oracle: ranks by the synthetic generator's next-item probabilities, an upper bound for every model."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from sidflow.contracts.artifacts.truth import TRUTH
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.contracts.params import Params


class OracleParams(Params):
    """The synthetic generator's own probabilities; nothing is fitted."""

    features: Literal["artifacts/catalog/truth.parquet"] = Field(
        default="artifacts/catalog/truth.parquet", description="the true probabilities"
    )


def oracle_factors(histories: Histories, truth: pl.DataFrame, items: int) -> Factored:
    """Return every query's true probabilities [q, n] and the identity [n, n].

    Real data has an empty truth: states are then zero [q, 1], so that all items tie.

    Raises:
        InputError: the truth lacks some queries, or has another number of items.
    """
    if not truth.height:
        return Factored(np.zeros((histories.query_count, 1), np.float32), np.zeros((items, 1), np.float32))
    queries = pl.DataFrame({"user_id": histories.query_user, "position": histories.query_end}).cast(pl.Int32)
    joined = queries.join(truth, on=["user_id", "position"], how="left", maintain_order="left")
    missing = joined.filter(pl.col("probabilities").is_null())
    width = truth.schema["probabilities"].shape[0]  # type: ignore[attr-defined]
    if missing.height or width != items:
        raise InputError(
            TRUTH.path,
            expected=f"probabilities of {items} items for every query",
            found=f"{width} items, {missing.height} queries without",
            example=missing.select("user_id", "position").row(0) if missing.height else None,
            remedy="rerun `dvc repro ingest split`",
        )
    states = np.ascontiguousarray(joined["probabilities"].to_numpy(), dtype=np.float32)
    return Factored(states, np.eye(items, dtype=np.float32))
