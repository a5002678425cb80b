"""`sidflow show item`: an item as text or JSON."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, replace

from sidflow.serving.items import Item, SharedPrefix

WIDTH = 110  # characters a line


def item_as_json(item: Item) -> str:
    """Return every field but the embeddings as JSON."""
    content = asdict(replace(item, embeddings={}))
    del content["embeddings"]
    return json.dumps(content, indent=2, ensure_ascii=False)


def item_as_text(item: Item) -> str:
    """Return the item's text, semantic IDs and neighbours as lines."""
    lines = [f"{item.title or '(no title)'}  [{item.item_key}]"]
    for name, value in {
        "brand": item.brand,
        "categories": " > ".join(item.categories),
        **item.attributes,
        "picture": f"{item.image_size[0]} x {item.image_size[1]} pixels" if item.image_size else "none",
        "in the core": "yes" if item.in_core else "no",
        "in training": "unknown" if item.training_count is None else f"{item.training_count} times",
        "description": item.description,
    }.items():
        lines += _wrapped(name, value)
    for view, text in item.views.items():
        lines += _wrapped(f"{view} view", text)
    for modality, semantic_id in item.semantic_ids.items():
        suffix = f", suffix {semantic_id.suffix}" if semantic_id.suffix else ""
        lines += ["", f"Semantic ID, {modality}: {'-'.join(map(str, semantic_id.codes))}{suffix}"]
        lines += [_shared_prefix(prefix, len(semantic_id.codes)) for prefix in semantic_id.shared_prefixes]
        lines += [] if semantic_id.shared_prefixes else ["  shares its first code with no item"]
    for modality, neighbours in item.neighbours.items():
        lines += ["", f"Nearest, {modality}"]
        lines += [f"  {near.cosine:.3f}  {near.title or '(no title)'}  [{near.item_key}]" for near in neighbours]
        lines += [] if neighbours else ["  the item lacks this modality"]
    return "\n".join(lines)


def _shared_prefix(prefix: SharedPrefix, levels: int) -> str:
    first = "first code" if prefix.levels == 1 else f"first {prefix.levels} codes"
    codes = "all codes" if prefix.levels == levels else first
    others = "1 other" if prefix.items == 1 else f"{prefix.items} others"
    some = "for example " if prefix.items > len(prefix.examples) else ""
    return f"  {codes} shared with {others}: {some}{'; '.join(prefix.examples)}"


def _wrapped(name: str, value: str) -> list[str]:
    return textwrap.wrap(value, WIDTH, initial_indent=f"  {name}: ", subsequent_indent="    ") if value else []
