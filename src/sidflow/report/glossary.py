"""What the terms on the page mean, with the thresholds that this run had; every use of a term leads to it."""

from __future__ import annotations

from sidflow.measures.spectra import COLLAPSED_BELOW
from sidflow.report.gather import Gathered
from sidflow.report.markup import Markup, join, number, percent, tag
from sidflow.report.naming import pretty


class Glossary:
    """Links terms to their definitions; what was linked is listed at the end of the page."""

    def __init__(self, given: Gathered) -> None:
        """Take the thresholds from params and from what the comparison was asked for."""
        self._means = {**_compared(given), **_sliced(given), **_METRICS, **_QUANTIZED, **_SPECTRA}
        self._used: set[str] = set()

    def link(self, term: str, shown: str | None = None) -> Markup:
        """Return `shown` (or the term itself) as a link to its definition; as plain text where there is none."""
        if term not in self._means:
            return join(shown or term)
        self._used.add(term)
        return tag("a", shown or term, href=f"#{_anchor(term)}", title=self._means[term], class_="term")

    def metric(self, name: str) -> Markup:
        """Return a metric as people write it, linked to what it measures."""
        written = pretty(name)
        return self.link(written.partition("@")[0], written)

    def begin(self, name: str) -> Markup:
        """Return a figure's name, linked to the longest term that it begins with."""
        term = max((term for term in self._means if f"{name} ".startswith(f"{term} ")), key=len, default=name)
        return self.link(term, name)

    def section(self) -> Markup | None:
        """Return the terms that the page used, by name."""
        rows = [
            tag("div", tag("dt", term), tag("dd", self._means[term]), id=_anchor(term))
            for term in sorted(self._used, key=str.lower)
        ]
        return tag("section", tag("h2", "Terms"), tag("dl", *rows, class_="terms")) if rows else None


def _anchor(term: str) -> str:
    return f"term-{term.replace(' ', '-').lower()}"


def _compared(given: Gathered) -> dict[str, str]:
    board = given.leaderboard
    level, power = percent(board["level"]), percent(board["power"])
    gain = percent(board["claimed_gain"], signed=True)
    return {
        "interval": f"{level} percentile interval of a paired bootstrap: users are drawn with replacement, all "
        "recommenders on the same draws. Relative to the best baseline's mean where a percentage is shown.",
        "minimum detectable effect": f"MDE: the smallest true difference that would be shown in {power} of repetitions "
        f"with as many users, at the {level} level before the correction for several comparisons.",
        "claimed gain": f"{gain}, relative to the best baseline: compare.claimed_gain in params. Its default, "
        f"{percent(0.04)}, is the least of the gains in nDCG@5, {percent(0.04, True)} to {percent(0.10, True)}, that "
        "MME-SID (arXiv 2509.02017) reports over its best baseline on three data sets.",
        "verdict": "Shown ahead: the interval of the difference lies above 0, and p, corrected for the number of "
        f"comparisons (Holm), below {number(1 - board['level'], 2)}. Gain contradicted: not shown, and the interval "
        f"lies below the claimed {gain}. Undecided: neither. The claimed gain itself is reached where the whole "
        "interval lies at it or above, excluded where it lies below, open otherwise.",
    }


def _sliced(given: Gathered) -> dict[str, str]:
    head, tail = (percent(given.cuts[part]) for part in ("head_share", "tail_share"))
    short, long = (f"{given.cuts[part]:g}" for part in ("short_history", "long_history"))
    return {
        "head": f"Targets among the most popular items, which together hold {head} of the training events.",
        "middle": "Targets between head and tail.",
        "tail": f"Targets among the least popular items, which together hold {tail} of the training events.",
        "cold": "Targets that never stand in a training part.",
        "short history": f"Queries with at most {short} earlier events.",
        "medium history": f"Queries with more than {short} and at most {long} earlier events.",
        "long history": f"Queries with more than {long} earlier events.",
        "seen transition": "Somebody made the step from the query's last item to its target in training.",
        "new transition": "Nobody made the step from the query's last item to its target in training.",
        "last event": "The target is the last event of its user.",
        "earlier event": "The target is not the last event of its user.",
        **{
            str(row["slice"]).replace("_", " "): "The target stands at that place of its user's events, counted from "
            "the end, the last one being 1."
            for row in next(iter(given.slices.values()), [])
            if str(row["slice"]).endswith("_from_end")
        },
        "without text": "Targets of which the catalogue has no words.",
        "without picture": "Targets of which the catalogue has no picture.",
    }


_METRICS = {
    "realised": "Measured on the item that each user really chose next, the held-out target.",
    "expected": "Every listed item weighted by its true probability to be the next one, instead of one target that was "
    "drawn; only a catalogue whose generator is known has it. Without the luck of the draw smaller differences show.",
    "of the best possible": "Expected nDCG@10 over that of a list ordered by the true probabilities.",
    "nDCG": "Normalised discounted cumulative gain: 1 / log2(rank + 1) of the target within the cutoff, else 0; mean "
    "over test queries.",
    "Recall": "Share of test queries whose target is within the cutoff (with one target: the hit rate).",
    "MRR": "Mean reciprocal rank: 1 / rank of the target within the cutoff, else 0; mean over test queries.",
}

_QUANTIZED = {
    "perplexity": "exp of the entropy of how often a level's codes are used: as many codes, used alike, would spread "
    "items as evenly. From 1 to the number of codes.",
    "code usage": "Share of a level's codes that at least one item has.",
    "gini": "Gini coefficient of how often a level's codes are used: 0 all alike, towards 1 one has everything.",
    "branching": "Mean number of different codes that follow a prefix down to the level before.",
    "collision rate": "Share of items whose codes another item has too, on all levels, before suffixes. Distinct: "
    "among items with distinct inputs. Resolved: after reassignment, where that was asked for.",
    "neighbour recall": "Share of an item's nearest neighbours that still are after quantization.",
    "neighbours in prefix": "Share of an item's nearest neighbours that have its codes down to that level.",
    "nmi": "Normalised mutual information of an item's first code and its category: 0 unrelated, 1 the same partition.",
    "reconstruction error": "Squared error of the decoded vectors over the variance of the inputs: 0 exact, 1 no "
    "better than their mean.",
    "tau": "Kendall's tau of two orders of the same items by distance, before and after quantization: pairs of items "
    "of a user's history, ordered by distance to the target. 1: all pairs keep their order; 0: nothing of it is left.",
    "tau triples": "The same tau over random triples of items instead of histories.",
}

_SPECTRA = {
    "effective rank": "exp of the entropy of the singular values, scaled to sum 1: as many dimensions, used alike, "
    "would be as evenly used. From 1 to the number of dimensions.",
    "information abundance": "Sum of the singular values over the largest: from 1, one direction, to the number of "
    "dimensions.",
    "share not collapsed": f"Share of dimensions with a singular value above {COLLAPSED_BELOW:g} of the largest.",
    "isotropy": "0 where one direction rules, 1 where all directions are alike (min over max partition function).",
    "mean cosine": "Mean cosine of the angle between the vectors of two different items.",
}
