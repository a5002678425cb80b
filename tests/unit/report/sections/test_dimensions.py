"""The chart of singular values: which recommenders and values are in it, and when its axis is logarithmic."""

import pytest
from tests.unit.report.conftest import distinct_data
from tests.unit.report.reading import RECOMMENDERS, classed, parse, points_of, rows_of, text_of

from sidflow.report.glossary import Glossary
from sidflow.report.sections.dimensions import dimensions_section


def made(learned=True, **spectra):
    """Return the section of recommenders with these singular values; of the others nothing is known."""
    data = distinct_data()
    if not learned:
        kept = {name: {k: v for k, v in data.metrics[name].items() if "item_table" not in k} for name in RECOMMENDERS}
        data = data._replace(metrics=kept)
    matrix = "item_table" if learned else "item_matrix"
    rows = {
        name: [{"matrix": matrix, "singular_value": str(value)} for value in spectra.get(name, ())]
        for name in RECOMMENDERS
    }
    section = dimensions_section(data._replace(spectra=rows), Glossary(data))
    return None if section is None else parse(str(section))


def lines(part):
    return {text_of(path): points_of(path) for path in classed(part, "path", "line")}


def test_small_values_are_shown_and_zeros_are_not():
    """The axis is from 1/4 of the dimensions at 46 to all of them at 590, logarithmic below a tenth."""
    part = made(mme_sid=[2, 0.5, 0.125, 0], oracle=[8, 4], sasrec=[4], popularity=[0, 0])
    found = lines(part)
    assert set(found) == set(rows_of(part)) == {"mme_sid", "oracle"}  # one value, or none above zero, makes no line
    assert [x for x, _ in found["mme_sid"]] == pytest.approx([46, 46 + 544 / 3, 46 + 2 * 544 / 3], abs=0.06)
    assert [x for x, _ in found["oracle"]] == pytest.approx([46 + 544 / 3, 590], abs=0.06)
    assert {name: text_of(cells[0]) for name, cells in rows_of(part).items()} == {"mme_sid": "4", "oracle": "2"}
    first, second, third = (y for _, y in found["mme_sid"])
    assert second - first == pytest.approx(third - second, abs=0.11) and second > first
    (_, highest), (_, half) = found["oracle"]
    assert highest == first and half - highest == pytest.approx((second - first) / 2, abs=0.11)


def test_values_down_to_a_tenth_stand_on_a_linear_axis():
    first, second, third = (y for _, y in lines(made(oracle=[10, 5.5, 1]))["oracle"])
    assert second - first == pytest.approx(third - second, abs=0.11) and second > first


def test_without_learned_tables_it_is_the_matrix_that_scores_items():
    for learned, told in ((True, "item table that each recommender learned"), (False, "matrix that scores items")):
        note = text_of(classed(made(learned, oracle=[2, 1]), "p", "note")[0])
        assert note.startswith(f"Of the {told}. ")


def test_without_values_there_is_no_section():
    assert made() is None
