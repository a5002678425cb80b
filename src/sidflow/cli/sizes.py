"""Loss, widths and epochs for data of any size, what they cost, and the data read and checked before a run.

The choice lies between the preset `embedded` and a preset of one's own: what the latter says wins. docs/sizes.md has
the tables, made from the rows below.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sidflow.cli.sections import Resolved

MOST = 2**63 - 1  # the last row's limit
MAX_EASE_ITEMS = 20_000  # EASE inverts a matrix of items x items: 7 GB there
FAMILIES = ("train_sequential", "train_multimodal", "finetune", "generate")  # what is trained by epochs


class ItemRow(NamedTuple):
    """The choice for catalogues of up to `items` core items."""

    items: int
    dimensions: int
    loss: str


class EventRow(NamedTuple):
    """The choice for data of up to `events` core events."""

    events: int
    epochs: int
    batch_size: int
    finetune_epochs: int


ITEM_ROWS = (ItemRow(2_000, 64, "full"), ItemRow(5_000, 128, "full"), ItemRow(MOST, 128, "sampled"))
EVENT_ROWS = (
    EventRow(50_000, 30, 32, 10),
    EventRow(250_000, 40, 64, 12),
    EventRow(1_000_000, 20, 128, 6),
    EventRow(5_000_000, 8, 256, 3),
    EventRow(25_000_000, 3, 512, 1),
    EventRow(MOST, 1, 1024, 1),
)


class Counts(NamedTuple):
    """The size of the core of some data."""

    items: int
    events: int

    @property
    def item_row(self) -> ItemRow:
        """The row of ITEM_ROWS that fits."""
        return next(row for row in ITEM_ROWS if self.items <= row.items)

    @property
    def event_row(self) -> EventRow:
        """The row of EVENT_ROWS that fits."""
        return next(row for row in EVENT_ROWS if self.events <= row.events)


class CountedData(NamedTuple):
    """What reading the data for once brought."""

    counts: Counts
    warnings: Sequence[str]


def count_data(resolved: Resolved) -> CountedData | None:
    """Read and check the data of `ingest` as the stage does, pictures excepted; None for a synthetic catalogue.

    Raises:
        InputError: the data is not in the source's format, or nothing of it is left.
    """
    from sidflow.catalog.ingest import build_catalog, read_source
    from sidflow.catalog.params import IngestParams

    settings = resolved.sections["ingest"]
    if not isinstance(settings, IngestParams) or settings.source == "synthetic":
        return None
    catalog = build_catalog(dataclasses.replace(read_source(settings), pictures={}), settings)
    counts = Counts(int(catalog.report["items_core"]), int(catalog.report["interactions"]))
    return CountedData(counts, list(catalog.warnings))


def synthetic_counts(resolved: Resolved) -> Counts | None:
    """Return about how large the core of the synthetic catalogue is; None for other data."""
    from sidflow.catalog.params import IngestParams

    settings = resolved.sections["ingest"]
    if not isinstance(settings, IngestParams) or settings.source != "synthetic":
        return None
    shop = settings.synthetic
    return Counts(shop.items, int(shop.users * shop.mean_length))


def sizes_patch(values: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Return the choice for data of this size, as a patch of all entries that `values` has.

    Args:
        values: composed params without the choice.
        counts: of the data.
    """
    width, steps = counts.item_row, counts.event_row
    model = {
        "dimensions": width.dimensions,
        "loss": width.loss,
        "batch_size": steps.batch_size,
        "loop": {"epochs": steps.epochs, "patience": max(1, steps.epochs // 3)},
    }
    finetune_loop = {"epochs": steps.finetune_epochs, "patience": max(1, steps.finetune_epochs // 3)}
    finetune_steps = {"batch_size": steps.batch_size, "loop": finetune_loop}
    finetune = {"loss": width.loss, **finetune_steps}
    generate = {name: model[name] for name in ("dimensions", "batch_size", "loop")}
    generates = {
        name: finetune_steps if (entry or {}).get("architecture") == "language_model" else generate
        for name, entry in (values.get("generate") or {}).items()
    }
    patch: dict[str, Any] = {
        "train_sequential": dict.fromkeys(values.get("train_sequential") or {}, model),
        "train_multimodal": {name: {"model": model} for name in values.get("train_multimodal") or {}},
        "finetune": dict.fromkeys(values.get("finetune") or {}, finetune),
        "generate": generates,
    }
    if counts.items > MAX_EASE_ITEMS and "ease" in (values.get("train_counting") or {}):
        patch["train_counting"] = {"ease": None}
    return patch


def chosen_lines(resolved: Resolved, counted: CountedData) -> Iterator[str]:
    """Yield what the data has, what was chosen for it, and how long the run takes, a line each."""
    counts = counted.counts
    yield f"The data has {counts.items:,} items and {counts.events:,} events in its core."
    yield from counted.warnings
    if resolved.top.sized_for:
        width, steps = counts.item_row, counts.event_row
        left_out = f" EASE is left out above {MAX_EASE_ITEMS:,} items." if counts.items > MAX_EASE_ITEMS else ""
        yield (
            f"Chosen for this size where the preset says nothing (docs/sizes.md): {width.dimensions} wide, loss "
            f"{width.loss}, {steps.epochs} epochs (MME-SID {steps.finetune_epochs}) of batches of {steps.batch_size}."
            + left_out
        )
    yield time_line(resolved, counts)


def time_line(resolved: Resolved, counts: Counts) -> str:
    """Return the expected time of a whole run on this machine, the longest stages first."""
    slowness = REFERENCE_GFLOPS / measured_gflops()
    seconds = {name: value * slowness for name, value in expected_seconds(resolved, counts).items()}
    longest = sorted(seconds, key=lambda name: -seconds[name])[:3]
    parts = ", ".join(f"{name} {duration(seconds[name])}" for name in longest)
    return f"A whole run takes roughly {duration(sum(seconds.values()))} on this machine's CPU; longest: {parts}."


REFERENCE_GFLOPS = 90.0  # float32 products of 512 x 512 matrices on one core of the machine of the coefficients
# Seconds per event and epoch at width 64 on one core there; measured on the project's presets.
EVENT_SECONDS = {"sasrec": 40e-6, "gru4rec": 40e-6, "bert4rec": 32e-6, "dmesr": 140e-6, "finetune": 170e-6}
# Of fine-tuning, likewise, for each layer of a pretrained backbone as wide as SmolLM2-135M (576), which has 30.
PRETRAINED_LAYER_SECONDS, PRETRAINED_LAYERS = 250e-6, 30
WRITER_SECONDS = 400.0  # training of the small writer with its default sizes
GENERATE_SECONDS = 30e-6  # of a layer, likewise, with IDs of five tokens
STAGE_SECONDS = 4.0  # start of a stage
BACKBONE_SECONDS = 50.0
QUANTIZE_SECONDS = (15.0, 0.006)  # at once, and for each item
EASE_SECONDS = 5e-11  # for each ridge, times items cubed
COUNTING_SECONDS = 1e-4  # for each event
RANKER_SECONDS = 2e-7  # for each user's history, item and pass over the histories (training, validation, test)
BLEND_SECONDS = 6e-9  # for each user's query and item
RANK_SECONDS = 3e-9  # for each user's query and item, about a fifth of the events being queries


def expected_seconds(resolved: Resolved, counts: Counts) -> dict[str, float]:
    """Return the expected seconds of each stage or group of stages on the reference machine."""
    sections = resolved.sections
    seconds = {"reading and describing": 8 * STAGE_SECONDS + counts.events * 2e-5 + counts.items * 0.01}
    for name, settings in _entries(sections, "train_counting") + _entries(sections, "train_content"):
        ridges = len(getattr(settings, "ridges", ()))
        seconds[name] = STAGE_SECONDS + counts.events * COUNTING_SECONDS + ridges * EASE_SECONDS * counts.items**3
    for name, settings in _entries(sections, "train_sequential"):
        seconds[name] = _epochs_seconds(settings, EVENT_SECONDS[settings.architecture], settings, counts)
    for name, settings in _entries(sections, "train_multimodal"):
        base: Any = settings.model  # the base model's params, once resolved
        kind = "dmesr" if hasattr(settings, "fine") else settings.base
        seconds[name] = _epochs_seconds(base, EVENT_SECONDS[kind] * 1.2, base, counts)
    backbone: Any = sections.get("backbone")
    layers = 0 if backbone is None or backbone.kind == "scratch" else backbone.layers or PRETRAINED_LAYERS
    for name, settings in _entries(sections, "finetune"):
        event = EVENT_SECONDS["finetune"] + layers * PRETRAINED_LAYER_SECONDS
        seconds[name] = _epochs_seconds(settings, event, None, counts)
    writer: Any = sections.get("train_writer")
    if writer is not None and writer.kind == "shop":
        seconds["train_writer"] = WRITER_SECONDS
    pairs = 0.2 * counts.events * counts.items
    for name, _ in _entries(sections, "train_ranker"):
        seconds[name] = 2 * STAGE_SECONDS + 3 * pairs * RANKER_SECONDS
    for name, _ in _entries(sections, "blend"):
        seconds[name] = STAGE_SECONDS + pairs * BLEND_SECONDS
    for name, settings in _entries(sections, "generate"):
        event = EVENT_SECONDS["finetune"]
        if settings.architecture != "language_model":
            event = GENERATE_SECONDS * settings.layers * (settings.dimensions / 64) ** 2
        seconds[name] = STAGE_SECONDS + settings.loop.epochs * counts.events * event
    if resolved.top.semantic_ids:
        seconds["backbone"] = BACKBONE_SECONDS
        seconds["quantize"] = QUANTIZE_SECONDS[0] + QUANTIZE_SECONDS[1] * counts.items
    listed = len(resolved.top.recommenders)
    seconds["rank and evaluate"] = listed * (2 * STAGE_SECONDS + pairs * RANK_SECONDS)
    return seconds


def _epochs_seconds(settings: Any, per_event: float, model: Any, counts: Counts) -> float:
    """Return the seconds of a training of all its epochs; early stopping makes it shorter."""
    dimensions = model.dimensions if model is not None else 64
    candidates = counts.items if settings.loss == "full" else 0
    event = per_event * (0.5 + dimensions / 128) + 6 * candidates * dimensions / (REFERENCE_GFLOPS * 1e9)
    return STAGE_SECONDS + settings.loop.epochs * counts.events * event


def _entries(sections: Mapping[str, Any], section: str) -> list[tuple[str, Any]]:
    return [(f"{section}@{name}", settings) for name, settings in (sections.get(section) or {}).items()]


def measured_gflops() -> float:
    """Return this machine's speed at products of 512 x 512 float32 matrices on one core, in GFLOP/s."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    matrix = np.ones((512, 512), dtype=np.float32)
    best = float("inf")
    with threadpool_limits(1):
        for _ in range(30):
            started = time.perf_counter()
            np.matmul(matrix, matrix)
            best = min(best, time.perf_counter() - started)
    return 2 * 512**3 / best / 1e9


def duration(seconds: float) -> str:
    """Return a rough duration in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
