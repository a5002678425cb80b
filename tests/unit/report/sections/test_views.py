"""The table of views: counts, and accuracy where the truth is known."""

from tests.unit.report.cases import report_data

from sidflow.report.markup import percent
from sidflow.report.sections.views import views_section

REPORT = {
    "image_views": 90,
    "image_failed": 3,
    "image_repaired": 2,
    "image_asked_again": 4,
    "image_repeated": 6,
    "image_words": 9.5,
    "image_colour_items": 90,
    "image_colour_said": 80,
    "image_colour_right": 72,
    "image_colour_accuracy": 0.8,
}


def page(**figures):
    return str(views_section(report_data()._replace(describe=figures)))


def test_counts_and_accuracy_of_a_view_stand_in_its_row():
    text = page(**REPORT)
    for cell in (
        "<td>90</td>",
        "<td>3</td>",
        "<td>2</td>",
        "<td>4</td>",
        "<td>6</td>",
        "<td>9.5</td>",
        percent(0.8, digits=1),
        "80 of 90",
    ):
        assert cell in text
    assert "colour right" in text
    assert "style right" not in text


def test_without_a_truth_no_accuracy_is_shown():
    text = page(**{name: value for name, value in REPORT.items() if "colour" not in name})
    assert "right" not in text
    assert "<td>90</td>" in text


def test_without_figures_there_is_no_section():
    assert views_section(report_data()._replace(describe={})) is None
