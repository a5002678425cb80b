"""No number of the page can be another one without a failing check: each is changed in turn."""

import re

import pytest
from tests.unit.report import test_numbers as numbers
from tests.unit.report import test_numbers_of_training_and_codes as trainings
from tests.unit.report.reading import section, text_of
from tests.unit.report.sections import test_embeddings as embeddings
from tests.unit.report.sections import test_generation as generation
from tests.unit.report.sections import test_views as views

CHECKS = {
    "header": [numbers.test_the_cards_of_the_head],
    "Leaderboard": [numbers.test_the_leaderboard_row_by_row, numbers.test_the_leaderboards_heads_and_notes],
    "Metrics by kinds of queries": [numbers.test_each_row_of_the_slices_is_its_own_recommenders],
    "Ablations of MME-SID": [numbers.test_the_rows_of_the_ablations],
    "Example users": [numbers.test_example_users_have_their_own_ranks_hits_and_last_items],
    "Example items": [numbers.test_example_items_have_their_own_codes],
    "Views of the items": [views.test_each_figure_stands_in_the_row_of_its_view_and_under_its_name],
    "Embeddings": [
        embeddings.test_the_figures_of_each_encoder,
        embeddings.test_the_agreement_of_each_pair_and_cooccurrence_last,
        embeddings.test_items_stand_above_their_nearest_in_each_encoder,
    ],
    "Training": [trainings.test_each_curve_is_of_its_own_training],
    "Semantic IDs: use of the codes": [
        trainings.test_each_level_has_its_own_codes,
        trainings.test_collisions_are_those_of_the_modality,
        trainings.test_the_audit_beside_that_of_residual_k_means,
    ],
    "Generated semantic IDs": [generation.test_each_figure_stands_under_its_name],
    "Use of dimensions": [numbers.test_use_of_dimensions, numbers.test_the_chart_of_singular_values],
    "Order of the events": [trainings.test_each_share_of_ascending_pairs_stands_in_its_row_and_column],
    "Statistics of the run": [trainings.test_the_statistics_of_the_run],
    "Terms": [numbers.test_the_definitions_have_the_thresholds_of_the_run],
}


def test_every_section_is_checked(page):
    titles = [text_of(part.find("h2")) for part in page.iter("section")]
    assert ["header", *titles] == list(CHECKS)


def numbers_of(part):
    """Yield the owner, the kind and the span of every number: of texts, of titles, and the first of every path."""
    for node in part.iter():
        for kind in ("text", "tail"):
            for match in re.finditer(r"\d+(?:[.\u2009]\d+)*", getattr(node, kind) or ""):
                yield node, kind, match.span()
        if node.tag == "path" and node.get("class", "").startswith(("line", "bar")):
            yield node, "d", re.search(r"[\d.]+", node.get("d")).span()


def replaced(node, kind, span, number):
    """Put a number in the place of another, and return the text as it was."""
    before = node.get("d") if kind == "d" else getattr(node, kind)
    put(node, kind, before[: span[0]] + number + before[span[1] :])
    return before


def put(node, kind, text):
    if kind == "d":
        node.set("d", text)
    else:
        setattr(node, kind, text)


@pytest.mark.parametrize("title", CHECKS)
def test_a_number_that_is_another_one_is_noticed(title, data, page):
    part = next(page.iter("header")) if title == "header" else section(page, title)
    for check in CHECKS[title]:
        check(data, page)
    missed, tried = [], 0
    for node, kind, span in list(numbers_of(part)):
        before = replaced(node, kind, span, "7351")
        try:
            for check in CHECKS[title]:
                check(data, page)
            missed.append(before)
        except (AssertionError, KeyError, ValueError):
            tried += 1
        finally:
            put(node, kind, before)
    assert missed == []
    assert tried > 5
