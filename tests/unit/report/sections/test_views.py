"""The table of views: counts, and accuracy where the truth is known."""

from tests.unit.report.cases import report_data
from tests.unit.report.reading import classed, fixed, heads_of, lines_of, parse, rows_of, section, share, text_of

from sidflow.report.sections.views import views_section

COUNTS = ("views", "failed", "repaired", "asked_again", "repeated")


def test_each_figure_stands_in_the_row_of_its_view_and_under_its_name(data, page):
    part = section(page, "Views of the items")
    attributes = ["category", "pattern"]  # the truth has these two alone
    assert heads_of(part) == [
        *("view", "views", "failed", "repaired", "asked again", "of several items", "words"),
        *(f"{name} right" for name in attributes),
    ]
    rows = rows_of(part)
    assert list(rows) == ["text", "joint"]
    for view, cells in rows.items():
        figures = {name.removeprefix(f"{view}_"): value for name, value in data.describe.items() if view in name}
        counts, words, judged = cells[:5], cells[5], cells[6:]
        assert [text_of(cell) for cell in counts] == [str(figures.get(name, 0)) for name in COUNTS]
        assert text_of(words) == fixed(figures["words"], 1)
        for name, cell in zip(attributes, judged, strict=True):
            if not figures.get(f"{name}_items"):
                assert text_of(cell) == ""
                continue
            assert cell.text == share(figures[f"{name}_accuracy"])
            assert lines_of(cell) == [f"{figures[f'{name}_said']} of {figures[f'{name}_items']}"]
    note = text_of(classed(part, "p", "note")[0])
    assert note.startswith("A failed view is absent, never invented.")
    assert "Right: the share of items whose view names the true value first" in note


def test_without_a_truth_no_accuracy_is_shown():
    part = parse(str(views_section(report_data()._replace(describe={"image_views": 90, "image_words": 9.5}))))
    assert heads_of(part)[-1] == "words"
    assert [text_of(cell) for cell in rows_of(part)["image"]] == ["90", "0", "0", "0", "0", "9.5"]
    assert text_of(classed(part, "p", "note")[0]).endswith("Words are the mean of a view.")


def test_without_figures_there_is_no_section():
    assert views_section(report_data()._replace(describe={})) is None
