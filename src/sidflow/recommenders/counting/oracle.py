"""The oracle: ranks by the synthetic generator's own next-item probabilities, the best that any model could do."""

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


def factors(histories: Histories, truth: pl.DataFrame, items: int) -> Factored:
    """Return every query's true probabilities and the identity.

    Real data has no truth: an empty one gives zero states of one dimension, so that all items tie.

    Raises:
        InputError: the truth knows some but not all queries, or another number of items.
    """
    if not truth.height:
        return Factored(np.zeros((histories.queries, 1), np.float32), np.zeros((items, 1), np.float32))
    asked = pl.DataFrame({"user_id": histories.query_user, "position": histories.query_end}).cast(pl.Int32)
    found = asked.join(truth, on=["user_id", "position"], how="left", maintain_order="left")
    missing = found.filter(pl.col("probabilities").is_null())
    width = truth.schema["probabilities"].shape[0]  # type: ignore[attr-defined]
    if missing.height or width != items:
        raise InputError(
            TRUTH.path,
            expected=f"probabilities of {items} items for every query",
            found=f"{width} items, {missing.height} queries without",
            example=missing.select("user_id", "position").row(0) if missing.height else None,
            remedy="rerun `dvc repro ingest split`",
        )
    states = np.ascontiguousarray(found["probabilities"].to_numpy(), dtype=np.float32)
    return Factored(states, np.eye(items, dtype=np.float32))
