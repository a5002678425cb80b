"""`sidflow recommend`: a recommendation as text or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from sidflow.serving.recommendations import NamedItem, Recommendation

SHOWN_HISTORY = 10  # most recent items printed


def recommendation_as_json(recommendation: Recommendation) -> str:
    """Return every field as JSON."""
    return json.dumps(asdict(recommendation), indent=2, ensure_ascii=False)


def recommendation_as_text(recommendation: Recommendation) -> str:
    """Return the history, the list, and the held-out target where there is one."""
    user = f"user {recommendation.user_key}" if recommendation.user_key else "this history"
    lines = [f"{recommendation.recommender} for {user}", "", "History"]
    earlier = len(recommendation.history) - SHOWN_HISTORY
    lines += [f"  ... {earlier} earlier"] if earlier > 0 else []
    lines += [f"  {_title_and_key(item)}" for item in recommendation.history[-SHOWN_HISTORY:]]
    lines += ["", "Recommended"]
    lines += [
        f"  {rank:>3}. {_title_and_key(item)}  {item.score:.4g}{'  (cold: outside the core)' if item.cold else ''}"
        for rank, item in enumerate(recommendation.items, 1)
    ]
    if recommendation.unscored:
        items = f"{recommendation.unscored} item{'s' if recommendation.unscored > 1 else ''}"
        lines += ["", f"Not scored, because they have no modality: {items} outside the core"]
    if recommendation.target is not None:
        rank = recommendation.target_rank
        note = f"rank {rank}" if rank else "no rank: it is in the history"
        lines += ["", f"Held-out next item: {_title_and_key(recommendation.target)}  ({note})"]
    return "\n".join(lines)


def _title_and_key(item: NamedItem) -> str:
    return f"{item.title or '(no title)'}  [{item.item_key}]"
