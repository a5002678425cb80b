"""Definitions of the terms on the page, with the thresholds of the run. Every use of a term links to its definition."""

from __future__ import annotations

from sidflow.metrics.geometry import COLLAPSED_BELOW
from sidflow.report.data import ReportData
from sidflow.report.markup import Markup, join, metric_title, number, percent, tag


class Glossary:
    """Links terms to their definitions, and lists the linked terms at the end of the page."""

    def __init__(self, data: ReportData) -> None:
        """Take the thresholds from params and from the leaderboard."""
        self._definitions = {**_comparison_terms(data), **_slice_terms(data), **_METRICS, **_SEMANTIC_IDS, **_SPECTRA}
        self._used: set[str] = set()

    def link(self, term: str, shown: str | None = None) -> Markup:
        """Return `shown`, by default the term, as a link to its definition; as plain text where it has none."""
        if term not in self._definitions:
            return join(shown or term)
        self._used.add(term)
        return tag("a", shown or term, href=f"#{_fragment(term)}", title=self._definitions[term], class_="term")

    def metric(self, name: str) -> Markup:
        """Return a metric's name as papers write it, linked to its definition."""
        title = metric_title(name)
        return self.link(title.partition("@")[0], title)

    def link_prefix(self, name: str) -> Markup:
        """Return a figure's name as a link to the longest term that it begins with."""
        term = max((term for term in self._definitions if f"{name} ".startswith(f"{term} ")), key=len, default=name)
        return self.link(term, name)

    def terms_section(self) -> Markup | None:
        """Return the definitions of the linked terms, in alphabetical order; None where no term was linked."""
        rows = [
            tag("div", tag("dt", term), tag("dd", self._definitions[term]), id=_fragment(term))
            for term in sorted(self._used, key=str.lower)
        ]
        return tag("section", tag("h2", "Terms"), tag("dl", *rows, class_="terms")) if rows else None


def _fragment(term: str) -> str:
    return f"term-{term.replace(' ', '-').lower()}"


def _comparison_terms(data: ReportData) -> dict[str, str]:
    board = data.leaderboard
    level, power = percent(board["level"]), percent(board["power"])
    gain = percent(board["claimed_gain"], signed=True)
    return {
        "interval": f"{level} percentile interval of a paired bootstrap: users are sampled with replacement, the same "
        "samples for all recommenders. Percentages are relative to the best baseline's mean.",
        "minimum detectable effect": f"MDE: the smallest true difference that would be shown in {power} of repetitions "
        f"with as many users, at the {level} level before the correction for several comparisons.",
        "claimed gain": f"{gain}, relative to the best baseline: compare.claimed_gain in params. Its default, "
        f"{percent(0.04)}, is the least of the gains in nDCG@5, {percent(0.04, True)} to {percent(0.10, True)}, that "
        "MME-SID (arXiv 2509.02017) reports over its best baseline on three data sets.",
        "verdict": "Shown ahead: the interval of the difference lies above 0, and p, corrected for the number of "
        f"comparisons (Holm), below {number(1 - board['level'], 2)}. Shown behind: the same, with the interval "
        f"below 0. Gain contradicted: neither, and the interval lies below the claimed {gain}. Undecided: none of "
        "these. The claimed gain itself is reached where the whole interval lies at it or above, excluded where it "
        "lies below, open otherwise.",
    }


def _slice_terms(data: ReportData) -> dict[str, str]:
    head, tail = (percent(data.slice_cuts[part]) for part in ("head_share", "tail_share"))
    short, long = (f"{data.slice_cuts[part]:g}" for part in ("short_history", "long_history"))
    return {
        "head": f"Targets among the most popular items, which together hold {head} of the training events.",
        "middle": "Targets between head and tail.",
        "tail": f"Targets among the least popular items, which together hold {tail} of the training events.",
        "cold": "Targets that occur in no training history.",
        "short history": f"Queries with at most {short} earlier events.",
        "medium history": f"Queries with more than {short} and at most {long} earlier events.",
        "long history": f"Queries with more than {long} earlier events.",
        "seen transition": "Training has the transition from the query's last item to its target.",
        "new transition": "Training lacks the transition from the query's last item to its target.",
        "last event": "The target is the last event of its user.",
        "earlier event": "The target is not the last event of its user.",
        **{
            str(row["slice"]).replace(
                "_", " "
            ): "The target has this position among its user's events, counted from the end; "
            "the last one has position 1."
            for row in next(iter(data.slices.values()), [])
            if str(row["slice"]).endswith("_from_end")
        },
        "without text": "Targets without text in the catalogue.",
        "without picture": "Targets without a picture in the catalogue.",
    }


_METRICS = {
    "realised": "Measured on the held-out target: the item that the user really chose next.",
    "expected": "Every listed item weighted by its true probability to be the next one, instead of one sampled "
    "target. Only a synthetic catalogue has these probabilities. Without the noise of sampling, smaller differences "
    "can be shown.",
    "of the best possible": "Expected nDCG@10 over that of a list ordered by the true probabilities.",
    "nDCG": "Normalised discounted cumulative gain: 1 / log2(rank + 1) of the target within the cutoff, else 0; mean "
    "over test queries.",
    "Recall": "Share of test queries whose target is within the cutoff (with one target: the hit rate).",
    "MRR": "Mean reciprocal rank: 1 / rank of the target within the cutoff, else 0; mean over test queries.",
}

_SEMANTIC_IDS = {
    "perplexity": "exp of the entropy of a level's code frequencies: the number of equally frequent codes with the "
    "same entropy. From 1 to the number of codes.",
    "code usage": "Share of a level's codes that at least one item has.",
    "gini": "Gini coefficient of a level's code frequencies: 0 where all are equal, near 1 where one code has all "
    "items.",
    "branching": "Mean number of different codes that follow a prefix of the levels before.",
    "collision rate": "Share of items that have all their codes in common with another item, before suffixes. "
    "Distinct: among items with distinct inputs. Resolved: after reassignment, where params turn it on.",
    "neighbour recall": "Share of an item's nearest neighbours that are still nearest after quantization.",
    "neighbours in prefix": "Share of an item's nearest neighbours that share its codes down to that level.",
    "nmi": "Normalised mutual information of an item's first code and its category: 0 unrelated, 1 the same partition.",
    "reconstruction error": "Squared error of the decoded vectors over the variance of the inputs: 0 exact, 1 no "
    "better than their mean.",
    "tau": "Kendall's tau between two orders of a history's items by distance to the target: before and after "
    "quantization. 1: all pairs keep their order; 0: the orders are unrelated.",
    "tau triples": "The same tau over random triples of items instead of histories.",
}

_SPECTRA = {
    "effective rank": "exp of the entropy of the singular values, scaled to sum 1: the number of equal singular values "
    "with the same entropy. From 1 to the number of dimensions.",
    "information abundance": "Sum of the singular values over the largest: from 1, one direction, to the number of "
    "dimensions.",
    "share not collapsed": f"Share of dimensions with a singular value above {COLLAPSED_BELOW:g} of the largest.",
    "isotropy": "0 where one direction dominates, 1 where all directions are equal (min over max partition function).",
    "mean cosine": "Mean cosine of the angle between the vectors of two different items.",
    "duplicates": "Items whose vector another item has, too, though what the encoder read of them differs.",
    "spread of lengths": "Standard deviation of the vectors' lengths over their mean: 0 where all are equally long.",
    "agreement": "Mean share of an item's nearest other items, by cosine, that two encoders have in common. Of "
    "co-occurrence: items are near where the same users had them in training.",
}
