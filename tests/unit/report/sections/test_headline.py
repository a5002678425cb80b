import pytest

from sidflow.report.markup import join
from sidflow.report.sections.headline import _title, ahead_sentence, claim_sentence, compare_with_best


def _board(low: float, high: float, verdict: str | None, claim: str | None, p: float = 0.01) -> dict:
    verdicts = {} if verdict is None else {"verdict": verdict, "claim": claim}
    middle = (low + high) / 2
    difference = {"difference": middle, "low": low, "high": high, "relative": middle / 0.2, "detectable": 0.01}
    return {
        "best_baseline": "sasrec",
        "claimed_gain": 0.04,
        "recommenders": {
            "sasrec": {"metrics": {"ndcg_at_10": {"mean": 0.2}}},
            "mme_sid": {"metrics": {"ndcg_at_10": {"mean": 0.2 + middle}}},
        },
        "differences": {"mme_sid": {"ndcg_at_10": {**difference, "p_corrected": p, **verdicts}}},
    }


@pytest.mark.parametrize(
    ("low", "high", "verdict", "claim", "p", "better", "by_as_much"),
    [
        (0.002, 0.006, "shown", "excluded", 0.01, "Shown: the interval lies above 0", "Excluded"),
        (0.002, 0.020, "shown", "open", 0.01, "Shown: the interval lies above 0", "Open"),
        (0.010, 0.020, "shown", "reached", 0.01, "Shown: the interval lies above 0", "Reached"),
        (0.002, 0.020, "undecided", "open", 0.15, "Not shown: the interval lies above 0, but p is 0.150", "Open"),
        (
            0.002,
            0.006,
            "shown",
            "excluded",
            0.0004,
            "Shown: the interval lies above 0 and p is below 0.001 after",
            "Excluded",
        ),
        (-0.010, 0.020, "undecided", "open", 0.5, "Undecided: the interval holds 0", "Open"),
        (-0.010, 0.002, "contradicted", "excluded", 0.5, "Undecided: the interval holds 0", "Excluded"),
        (
            -0.020,
            -0.010,
            "behind",
            "excluded",
            0.01,
            "No, it is behind: the interval lies below 0 and p",
            "Excluded",
        ),
        (-0.020, -0.010, "contradicted", "excluded", 0.051, "Not shown: the interval lies below 0, but p", "Excluded"),
    ],
)
def test_better_at_all_and_as_much_better_as_claimed_are_two_answers(low, high, verdict, claim, p, better, by_as_much):
    difference = compare_with_best(_board(low, high, verdict, claim, p), "mme_sid", "ndcg_at_10")
    assert difference is not None
    assert ahead_sentence(difference).startswith(better)
    assert claim_sentence(difference).startswith(by_as_much)
    assert "+4\u2009%" in claim_sentence(difference)


def test_no_gain_is_claimed_over_nothing():
    difference = compare_with_best(_board(0.01, 0.02, "shown", None, 0.01), "mme_sid", "ndcg_at_10")
    assert difference is not None
    assert claim_sentence(difference).startswith("No share of nothing")


def test_figures_are_relative_to_the_best_baseline():
    difference = compare_with_best(_board(-0.01, 0.03, "undecided", "open"), "mme_sid", "ndcg_at_10")
    assert difference is not None
    assert (difference.relative_low, difference.relative_high, difference.detectable) == pytest.approx(
        (-0.05, 0.15, 0.05)
    )
    assert compare_with_best(_board(0, 0, None, None), "sasrec", "ndcg_at_10") is None


@pytest.mark.parametrize(
    ("verdict", "claim", "rest"),
    [
        ("shown", "reached", " is ahead of sasrec in realised nDCG@10, by the claimed +4\u2009% or more"),
        ("shown", "excluded", " is ahead of sasrec in realised nDCG@10, by less than the claimed +4\u2009%"),
        ("shown", "open", " is ahead of sasrec in realised nDCG@10; the claimed gain of +4\u2009% is undecided"),
        ("behind", "excluded", " is behind sasrec in realised nDCG@10"),
        ("contradicted", "excluded", " does not gain the claimed +4\u2009% over sasrec in realised nDCG@10"),
        ("undecided", "open", " is not shown to be ahead of sasrec in realised nDCG@10"),
    ],
)
def test_the_title_says_what_was_shown(verdict, claim, rest):
    comparison = compare_with_best(_board(0.01, 0.03, verdict, claim), "mme_sid", "ndcg_at_10")
    assert comparison is not None
    assert join(*_title(comparison, "mme_sid", "sasrec")) == f"<em>mme_sid</em>{rest}"
