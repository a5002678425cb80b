"""What `recommend`, `show item`, `assign-new` and `merge` print."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl

from sidflow.api import Project
from sidflow.artifacts.semantic_ids import quantized_modalities
from sidflow.catalog.reading import readable_table
from sidflow.core.disk import check_file_target
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path
from sidflow.core.params import load_params
from sidflow.mme_sid.serve import SETTINGS, TABLES, merge
from sidflow.serving.items import Item, SharedPrefix
from sidflow.serving.new_items import assign_new_ids, read_quantizer
from sidflow.serving.recommendations import NamedItem, Recommendation

SHOWN_HISTORY = 10  # most recent items printed
WIDTH = 110  # characters a line
_REMEDY = "write --vectors text=new.parquet, a file with the columns item_key and vector (a fixed number of floats)"


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
        in_history = recommendation.target.item_key in [item.item_key for item in recommendation.history]
        reason = "in the history" if in_history else "not on the list"
        note = f"rank {rank}" if rank else f"no rank: it is {reason}"
        lines += ["", f"Held-out next item: {_title_and_key(recommendation.target)}  ({note})"]
    return "\n".join(lines)


def _title_and_key(item: NamedItem) -> str:
    return f"{item.title or '(no title)'}  [{item.item_key}]"


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
        lines += [
            f"  {neighbour.cosine:.3f}  {neighbour.title or '(no title)'}  [{neighbour.item_key}]"
            for neighbour in neighbours
        ]
        lines += [] if neighbours else ["  the item lacks this modality"]
    return "\n".join(lines)


def _shared_prefix(prefix: SharedPrefix, levels: int) -> str:
    first = "first code" if prefix.levels == 1 else f"first {prefix.levels} codes"
    codes = "all codes" if prefix.levels == levels else first
    others = "1 other" if prefix.items == 1 else f"{prefix.items} others"
    intro = "for example " if prefix.items > len(prefix.examples) else ""
    return f"  {codes} shared with {others}: {intro}{'; '.join(prefix.examples)}"


def _wrapped(name: str, value: str) -> list[str]:
    return textwrap.wrap(value, WIDTH, initial_indent=f"  {name}: ", subsequent_indent="    ") if value else []


def write_new_ids(artifacts: Path, out: Path, vector_files: Sequence[str] | None = None) -> list[str]:
    """Write the IDs of a run, then those of new items, and return a line for each modality.

    Args:
        artifacts: the artifacts folder of the run that trained the quantizer.
        out: a Parquet file; see `assign_new_ids` for its columns.
        vector_files: `MODALITY=FILE` each, Parquet with item_key and vector. Left out, the modalities of the project
            in the current folder are taken.

    Raises:
        InputError: a file is absent or invalid; else see `assign_new_ids`.
    """
    check_file_target(out)
    vectors = _read_vectors(vector_files) if vector_files else _project_vectors(artifacts)
    ids = assign_new_ids(artifacts, vectors)
    with atomic_path(out) as temporary:
        ids.write_parquet(temporary)
    lines = []
    for modality in vectors:
        new = ids.filter(pl.col("modality") == modality)["new"]
        lines.append(f"{modality}: {new.sum()} new items, {len(new) - new.sum()} with an ID already")
    return [*lines, f"Wrote {out}."]


def _project_vectors(artifacts: Path) -> dict[str, pl.DataFrame]:
    """Return the current project's encoder vectors of the modalities that the quantizer was trained on."""
    trained, project = quantized_modalities(read_quantizer(artifacts)), Project.load()
    return {modality: project.source_vectors(modality) for modality in project.modalities if modality in trained}


def _read_vectors(arguments: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Read the files of `MODALITY=FILE`, one a modality."""
    modalities = [argument.partition("=")[0] for argument in arguments]
    repeated = [modality for modality in modalities if modalities.count(modality) > 1]
    if repeated:
        raise InputError(
            "--vectors",
            expected="one file for each modality",
            found=f"{modalities.count(repeated[0])} for {repeated[0]}",
            remedy="join them to one file",
        )
    return dict(map(_read_vector_file, arguments))


def _read_vector_file(argument: str) -> tuple[str, pl.DataFrame]:
    """Read one `MODALITY=FILE`."""
    modality, _, file = argument.partition("=")
    if not file:
        raise InputError("--vectors", expected="MODALITY=FILE", found=argument, remedy=_REMEDY)
    if not Path(file).is_file():
        found = "a folder of that name" if Path(file).is_dir() else "no such file"
        raise InputError(f"--vectors {argument}", expected=f"a Parquet file {file}", found=found, remedy=_REMEDY)
    path = Path(file)
    with readable_table(path, expected="a Parquet file with item_key and vector", remedy=_REMEDY):
        return modality, pl.scan_parquet(path, glob=False).select("item_key", "vector").collect()


def write_merged(recommender: str, folder: Path) -> str:
    """Write the checkpoint to `folder` and return what it holds.

    Raises:
        InputError: `recommender` is not a fine-tuned one; else see `sidflow.mme_sid.serve.merge`.
    """
    finetuned = list(load_params().get("finetune") or [])
    if recommender not in finetuned:
        raise InputError(
            "--recommender",
            expected=f"one of `finetune` in params.yaml: {', '.join(finetuned) or 'there is none'}",
            found=recommender,
            remedy="name one of them" if finetuned else "`sidflow recommenders NAME ... mme_sid`, then `dvc repro`",
        )
    merge(recommender, folder)
    return f"{folder} has {recommender}'s language model with the adapter merged in, {TABLES} and {SETTINGS}."
