"""Tables of docs/dmesr.md, of the runs of the presets `*-dmesr` and `*-fused`; one line says where none is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments import dmesr
from experiments.dmesr import BASES, METRIC, TAIL_GAIN, Question, SliceAnswer
from experiments.results import FOLDER, SETTINGS
from experiments.tables.markdown import difference_cells, format_short_estimate, markdown_table
from experiments.tables.results import pooled_answers_table
from sidflow.core.documents import Document
from sidflow.evaluation.statistics import PairedComparison

NO_RECORD = "No run of a preset `*-dmesr` is recorded that this table could be made of."
_EXPECTED = f"expected_{METRIC}"
_ROWS: dict[str, Callable[[str], str]] = {
    "base model": lambda base: base,
    "text alone": lambda base: f"{base}_text",
    "picture alone": lambda base: f"{base}_image",
    "joint view alone": lambda base: f"{base}_joint",
    "raw vectors of text and, where there are any, pictures": lambda base: f"{base}_features",
    "raw vectors of the three views": lambda base: f"{base}_views",
    "DMESR": lambda base: f"dmesr_{base}",
    "base model's hybrid": lambda base: f"{base}_hybrid",
    "the same with the prior": lambda base: f"{base}_features_hybrid",
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


_MME_SID = {  # rows of their own: no base model
    "MME-SID, the same IDs": "mme_sid",
    "MME-SID with what DMESR fused": "mme_sid_fused",
}
_PARTS = ("difference and 95% interval", "relative", "smallest detectable", "verdict")


def dmesr_table() -> str:
    """Return nDCG@10 of every recommender of each preset: variants down, base models across."""
    rows = []
    for preset in dmesr.recorded_presets():
        recommenders = Document(str(FOLDER / f"{preset}.json")).read()["recommenders"]
        for title, name in _ROWS.items():
            rows.append([preset, title, *(_cell(recommenders.get(name(base))) for base in BASES)])
        rows += [[preset, title, _cell(recommenders.get(name)), "", ""] for title, name in _MME_SID.items()]
    head = ["preset", "nDCG@10", "SASRec", "GRU4Rec", "BERT4Rec"]
    return markdown_table(head, [row for row in rows if any(row[2:])]) or NO_RECORD


def dmesr_differences_table() -> str:
    """Return DMESR against its alternatives and against itself with a part off, on all test queries of each preset."""
    rows = []
    questions = dmesr.all_questions()
    for preset in dmesr.recorded_presets():
        realised, expected = (_by_question(dmesr.answers(preset, questions, one)) for one in (METRIC, _EXPECTED))
        rows += [
            [preset, f"{one} - {other}", *difference_cells(comparison), *difference_cells(expected.get((one, other)))]
            for (one, other), comparison in realised.items()
        ]
    head = ["preset", "difference of", *(f"nDCG@10: {part}" for part in _PARTS)]
    return markdown_table([*head, *(f"expected: {part}" for part in _PARTS)], rows) or NO_RECORD


def dmesr_slices_table() -> str:
    """Return the main comparisons on tail and cold items, and on items without text or picture, of each preset."""
    rows = [
        [preset, one.slice, str(one.queries), f"{one.one} - {one.other}", *difference_cells(one.comparison)]
        for preset in dmesr.recorded_presets()
        for one in dmesr.slice_answers(preset, METRIC)
    ]
    return markdown_table(["preset", "targets", "queries", "difference of", *_PARTS], rows) or NO_RECORD


def dmesr_pooled_table() -> str:
    """Return DMESR over its alternatives, pooled over the real data sets."""
    return pooled_answers_table(dmesr.pooled_answers(), SETTINGS.claimed_gain) or _no_pool()


def dmesr_tail_table() -> str:
    """Return what DMESR gains on tail targets, of each preset, and whether it is the goal's size."""
    rows = []
    for preset in dmesr.recorded_presets():
        realised = dmesr.tail_answers(preset, METRIC)
        expected = _by_question(dmesr.tail_answers(preset, _EXPECTED))
        rows += [
            [
                preset,
                str(answer.queries),
                f"{answer.one} - {answer.other}",
                *_goal_cells(answer.comparison),
                *_goal_cells(expected.get((answer.one, answer.other))),
            ]
            for answer in realised
        ]
    parts = (*_PARTS, f"as large as {TAIL_GAIN:+.0%}")
    head = ["preset", "tail queries", "difference of", *(f"nDCG@10: {part}" for part in parts)]
    return markdown_table([*head, *(f"expected: {part}" for part in parts)], rows) or NO_RECORD


def dmesr_tail_pooled_table() -> str:
    """Return what DMESR gains on tail targets, pooled over the real data sets."""
    return pooled_answers_table(dmesr.pooled_tail_answers(), TAIL_GAIN) or _no_pool()


def _no_pool() -> str:
    return "No two real data sets with a recorded run of a preset `*-dmesr` answer one of these questions."


def _goal_cells(comparison: PairedComparison | None) -> list[str]:
    return [*difference_cells(comparison), str(comparison.claim) if comparison else ""]


def _by_question(compared: Sequence[SliceAnswer]) -> dict[Question, PairedComparison]:
    return {(answer.one, answer.other): answer.comparison for answer in compared}


def _cell(recommender: Mapping | None) -> str:
    value = None if recommender is None else recommender["metrics"].get(METRIC)
    return "" if value is None else format_short_estimate(value["mean"], value["low"], value["high"])
