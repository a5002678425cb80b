"""Tables of docs/dmesr.md, of the runs of `embedded-dmesr`: empty where none is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments.dmesr import (
    BASES,
    PRESET,
    Question,
    SliceAnswer,
    ablation_questions,
    alternative_questions,
    answers,
    main_questions,
    slice_answers,
)
from experiments.results import FOLDER
from experiments.tables.markdown import difference_cells, format_short_estimate, markdown_table
from sidflow.core.documents import Document
from sidflow.evaluation.statistics import PairedComparison

_METRIC, _EXPECTED = "ndcg_at_10", "expected_ndcg_at_10"
_ROWS: dict[str, Callable[[str], str]] = {
    "base model, its settings in `embedded`": lambda base: base,
    "base model, DMESR's learning rate schedule": lambda base: f"{base}_scheduled",
    "text alone": lambda base: f"{base}_text",
    "picture alone": lambda base: f"{base}_image",
    "joint view alone": lambda base: f"{base}_joint",
    "raw text and picture vectors": lambda base: f"{base}_features",
    "raw vectors of the three views": lambda base: f"{base}_views",
    "DMESR": lambda base: f"dmesr_{base}",
    "base model's hybrid": lambda base: f"{base}_hybrid",
    "raw text and picture vectors, with the prior": lambda base: f"{base}_features_hybrid",
    "DMESR with the prior": lambda base: f"dmesr_{base}_hybrid",
    "DMESR, the picture's own vector as image view": lambda base: f"dmesr_{base}_picture",
    "DMESR, `alignment_weight: 0`": lambda base: f"dmesr_{base}_unaligned",
    "DMESR, `fusion: none`": lambda base: f"dmesr_{base}_unfused",
    "DMESR, `fusion: views`": lambda base: f"dmesr_{base}_views",
    "DMESR, `fusion: units`": lambda base: f"dmesr_{base}_units",
    "DMESR, `mode: replace`": lambda base: f"dmesr_{base}_replace",
    "DMESR, `mode: concat`": lambda base: f"dmesr_{base}_concat",
    "DMESR, neither image nor joint view": lambda base: f"dmesr_{base}_no_picture",
    "DMESR, no text view": lambda base: f"dmesr_{base}_no_text_view",
    "DMESR, no image view": lambda base: f"dmesr_{base}_no_image_view",
    "DMESR, no joint view": lambda base: f"dmesr_{base}_no_joint_view",
    "DMESR, no fine units": lambda base: f"dmesr_{base}_no_fine",
}


def dmesr_table() -> str:
    """Return nDCG@10 of every recommender of the preset: variants down, base models across."""
    path = FOLDER / f"{PRESET}.json"
    if not path.is_file():
        return ""
    recommenders = Document(str(path)).read()["recommenders"]
    rows = [[title, *(_cell(recommenders.get(name(base))) for base in BASES)] for title, name in _ROWS.items()]
    return markdown_table(["nDCG@10", "SASRec", "GRU4Rec", "BERT4Rec"], rows)


def dmesr_differences_table() -> str:
    """Return DMESR against its alternatives and against itself with a part off, on all test queries."""
    questions = [*main_questions(), *alternative_questions(), *ablation_questions()]
    realised, expected = (_by_question(answers(questions, metric)) for metric in (_METRIC, _EXPECTED))
    rows = [
        [f"{one} - {other}", *difference_cells(realised[one, other]), *difference_cells(expected.get((one, other)))]
        for one, other in questions
        if (one, other) in realised
    ]
    parts = ("difference and 95% interval", "relative", "smallest detectable", "verdict")
    return markdown_table(
        ["difference of", *(f"nDCG@10: {part}" for part in parts), *(f"expected: {part}" for part in parts)], rows
    )


def dmesr_slices_table() -> str:
    """Return the main comparisons on tail and cold items, and on items without text or picture."""
    rows = [
        [one.slice, str(one.queries), f"{one.one} - {one.other}", *difference_cells(one.comparison)]
        for one in slice_answers(_METRIC)
    ]
    head = ["targets", "queries", "difference of", "difference and 95% interval", "relative", "smallest detectable"]
    return markdown_table([*head, "verdict"], rows)


def _by_question(compared: Sequence[SliceAnswer]) -> dict[Question, PairedComparison]:
    return {(answer.one, answer.other): answer.comparison for answer in compared}


def _cell(recommender: Mapping | None) -> str:
    value = None if recommender is None else recommender["metrics"].get(_METRIC)
    return "" if value is None else format_short_estimate(value["mean"], value["low"], value["high"])
