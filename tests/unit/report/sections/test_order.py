"""The page shows how often events ascend by something other than time."""

from sidflow.report.data import ReportData
from sidflow.report.sections.order import is_order_figure, order_section

FIGURES = {
    "pairs_ascending_key": 0.721,
    "pairs_ascending_key_shuffled": 0.499,
    "pairs_count": 300,
    "last_pairs_ascending_key": 0.752,
    "last_pairs_ascending_key_shuffled": 0.497,
    "pairs_ascending_popularity": 0.25,
    "pairs_ascending_popularity_shuffled": 0.5,
}


def data_with(figures) -> ReportData:
    return ReportData(**dict.fromkeys(ReportData._fields) | {"ingest": figures})


def test_each_share_stands_above_that_of_shuffled_sequences():
    section = order_section(data_with(FIGURES)) or ""
    assert "72.1\u2009%<small>49.9\u2009%</small>" in section
    assert "75.2\u2009%<small>49.7\u2009%</small>" in section
    assert "number of events of the item" in section
    assert "same second" not in section  # a source without a clock has no ties
    assert "first appearance" not in section  # not measured


def test_a_report_without_these_figures_has_no_section():
    assert order_section(data_with({"users": 3})) is None


def test_figures_of_the_section_are_those_of_pairs():
    assert is_order_figure("tied_pairs_ascending_key")
    assert not is_order_figure("pairs_count")
