"""The claims of the MME-SID paper beside our results in experiments/results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments.paired import METHODS, answer_questions
from experiments.published import PUBLISHED_PATH, PublishedClaim, read_published
from sidflow.cli.ablations import FULL_MODEL
from sidflow.core.documents import Document
from sidflow.evaluation.statistics import format_difference, format_relative

GAIN_METRIC = "ndcg_at_5"
COLLAPSE_PATH = Path("experiments/results/benchmarks/mme_sid_collapse.json")
ABLATIONS_FOLDER = Path("experiments/results/benchmarks/ablations")
RANDOM_CODEBOOKS = "codebooks at random"  # a row of the ablation table


class ClaimResult(NamedTuple):
    """One of our figures beside a claim."""

    claim: PublishedClaim
    subject: str  # data set, and what is compared
    result: str
    command: str  # that printed it


def results_beside_claims() -> Iterator[ClaimResult]:
    """Yield our figures, claim by claim; none where experiments/published.yaml has no claims.

    Raises:
        InputError: experiments/published.yaml is not valid.
    """
    claims = read_published().claims if PUBLISHED_PATH.is_file() else None
    if claims is None:
        return
    yield from _gain_results(claims.gain)
    yield from _live_dimension_results(claims.live_dimensions)
    yield from _forgetting_results(claims.forgetting)


def format_over_seeds(values: Sequence[float], form: str) -> str:
    """Return the mean over seeds and, in brackets, the least and the most, each in the format `form`."""
    return f"{fmean(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def _gain_results(claim: PublishedClaim) -> Iterator[ClaimResult]:
    for answer in answer_questions([GAIN_METRIC]):
        comparison = answer.comparison
        if answer.other_is_best_baseline and answer.one in METHODS and comparison.relative is not None:
            difference = format_difference(comparison.difference, comparison.low, comparison.high)
            result = f"{format_relative(comparison.relative)}, {difference}: {comparison.verdict}"
            subject = f"{answer.preset}, {answer.one} over {answer.other}"
            yield ClaimResult(claim, subject, result, "python -m experiments.tables")


def _live_dimension_results(claim: PublishedClaim) -> Iterator[ClaimResult]:
    if not COLLAPSE_PATH.is_file():
        return
    document = Document(str(COLLAPSE_PATH)).read()
    shares = {form: [seed["alive_share"] for seed in seeds] for form, seeds in document["per_seed"].items()}
    full, *others = shares
    for name in others:
        result = f"{format_over_seeds(shares[full], '.1%')} against {format_over_seeds(shares[name], '.1%')}"
        yield ClaimResult(claim, f"{full} against {name}", result, document["command"])


def _forgetting_results(claim: PublishedClaim) -> Iterator[ClaimResult]:
    for path in sorted(ABLATIONS_FOLDER.glob("*.json")):
        document = Document(str(path)).read()
        tau = {row: [seed["tau_of_codes"] for seed in seeds.values()] for row, seeds in document["runs"].items()}
        if FULL_MODEL in tau and RANDOM_CODEBOOKS in tau:
            full, random = (format_over_seeds(tau[row], ".4f") for row in (FULL_MODEL, RANDOM_CODEBOOKS))
            yield ClaimResult(claim, document["run"], f"{full} against {random}", document["command"])
