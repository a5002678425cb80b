"""What the paper of MME-SID claims, beside what docs/results and benchmarks/results hold of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from sidflow.commands import paired, published
from sidflow.contracts.documents import Document
from sidflow.evaluation.ablation import WHOLE

GAIN = "ndcg_at_5"
COLLAPSE = Path("benchmarks/results/mme_sid_collapse.json")
ABLATIONS = Path("benchmarks/results/ablations")
RANDOM = "codebooks at random"  # a row of the ablation table


class Ours(NamedTuple):
    """One of our figures beside a claim."""

    claim: published.Claim
    of: str  # data set, and what is compared
    found: str
    command: str  # that printed it


def beside() -> Iterator[Ours]:
    """Yield our figures, claim by claim.

    Raises:
        InputError: docs/published.yaml is not of its form.
    """
    claims = published.read().claims if published.PATH.is_file() else None
    if claims is None:
        return
    yield from _gains(claims.gain)
    yield from _live_dimensions(claims.live_dimensions)
    yield from _forgetting(claims.forgetting)


def _gains(claim: published.Claim) -> Iterator[Ours]:
    for answer in paired.answers([GAIN]):
        if answer.best and answer.one in paired.METHODS and answer.relative is not None:
            found = answer.found
            told = f"{100 * answer.relative:+.1f}%, {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            of = f"{answer.preset}, {answer.one} over {answer.other}"
            yield Ours(claim, of, f"{told}: {answer.verdict}", "sidflow results table")


def _live_dimensions(claim: published.Claim) -> Iterator[Ours]:
    if not COLLAPSE.is_file():
        return
    document = Document(str(COLLAPSE)).read()
    shares = {form: [seed["alive_share"] for seed in seeds] for form, seeds in document["per_seed"].items()}
    whole, *others = shares
    for name in others:
        found = f"{over_seeds(shares[whole], '.1%')} against {over_seeds(shares[name], '.1%')}"
        yield Ours(claim, f"{whole} against {name}", found, document["command"])


def _forgetting(claim: published.Claim) -> Iterator[Ours]:
    for path in sorted(ABLATIONS.glob("*.json")):
        document = Document(str(path)).read()
        tau = {row: [seed["tau_of_codes"] for seed in seeds.values()] for row, seeds in document["runs"].items()}
        if WHOLE in tau and RANDOM in tau:
            found = f"{over_seeds(tau[WHOLE], '.4f')} against {over_seeds(tau[RANDOM], '.4f')}"
            yield Ours(claim, document["run"], found, document["command"])


def over_seeds(values: Sequence[float], form: str) -> str:
    """Return the mean over seeds and, in brackets, the least and the most, each in the format `form`."""
    return f"{fmean(values):{form}} [{min(values):{form}}, {max(values):{form}}]"
