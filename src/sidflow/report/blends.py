"""Blends in which the added recommender has no part."""

from __future__ import annotations

from collections.abc import Mapping


def added_without_weight(summary: Mapping) -> str | None:
    """Return the recommender that a blend adds with the weight 0; None of any other recommender.

    Args:
        summary: of its training.
    """
    weight = (summary.get("chosen") or {}).get("weight")
    return (summary.get("params") or {}).get("added") if weight == 0 else None


def base_alone_sentence(name: str, summary: Mapping) -> str | None:
    """Return a sentence for a blend that adds a recommender with the weight 0; None of any other recommender."""
    added = added_without_weight(summary)
    if added is None:
        return None
    return (
        f"{name} is {summary['params']['base']} alone: validation gave {added} the weight 0, so it adds nothing here."
    )
