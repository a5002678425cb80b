import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from tests.unit.report.cases import report_data
from tests.unit.report.outline import OUTLINE, written

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.evaluation import LEADERBOARD
from sidflow.report.data import RankedLists, ReportParams, best_method_and_baseline
from sidflow.report.page import render_page
from sidflow.report.sections.curves import still_improving
from sidflow.report.sections.examples import choose_queries


class _Reader(HTMLParser):
    VOID = ("img", "br", "meta", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("rich", [True, False])
def test_the_page_is_whole_self_contained_and_nothing_in_it_runs(rich):
    text = render_page(report_data(rich), ReportParams())
    reader = _read(text)
    assert not {"script", "img", "iframe", "object"} & set(reader.tags)
    assert re.findall(r"<link[^>]*>", text) == ['<link rel="stylesheet" href="costs.css">']  # the page does without it
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert not re.findall(r"(?:https?:|//)[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text).lower().replace("finance", "")


def test_the_page_is_built_as_its_outline_says():
    """Tables, lists and charts in their order, with their classes and texts; `tests.unit.report.outline` writes it."""
    assert written() == OUTLINE.read_text(encoding="utf-8")


def test_the_same_artifacts_give_the_same_bytes():
    assert render_page(report_data(), ReportParams()) == render_page(report_data(), ReportParams())


def test_ablations_are_on_the_page_where_they_ran():
    assert "Ablations of MME-SID" in render_page(report_data(), ReportParams())
    data = report_data()
    assert "0.0321" in render_page(data, ReportParams())  # the smallest difference that would be detected
    assert data.ablations is not None
    for row in data.ablations["rows"]:
        row.pop("detectable", None)  # tables of before have none
    assert "0.0321" not in render_page(data, ReportParams())
    assert "Ablations of MME-SID" not in render_page(report_data(rich=False), ReportParams())


def test_pictures_enter_once_downsized_and_only_those_used():
    text = render_page(report_data(), ReportParams(users=1, items=0, history=2, recommendations=3, thumbnail=40))
    data = report_data()
    encoded = re.findall(r"\.p(\d+)\{background-image", text)
    assert len(encoded) == len(set(encoded))
    shown = {int(item) for item in re.findall(r'class="face p(\d+)"', text)}
    assert shown == {int(item) for item in encoded} <= set(data.pictures)


def test_expected_metrics_are_shown_where_the_catalogue_is_synthetic():
    rich, bare = render_page(report_data(), ReportParams()), render_page(report_data(rich=False), ReportParams())
    for text_part in ("of the best possible", "without the noise of sampled targets", ">expected<"):
        assert text_part in rich
        assert text_part not in bare


def test_a_writers_hash_is_shown_short():
    data = report_data()
    named = data.semantics.with_columns(writer=pl.lit(f"shop-writer@{'0123456789abcdef' * 4}"))
    text = render_page(data._replace(semantics=named), ReportParams())
    assert "Descriptions written by shop-writer@0123456789ab. " in text


def test_absent_parts_are_replaced_by_text():
    text = render_page(report_data(rich=False), ReportParams())
    assert "item k0" in text
    assert "No description." in text
    assert "The run has no semantic IDs." in text
    assert "No figures." in text
    assert ">Training<" not in text


def test_a_hit_is_marked_in_the_list_that_has_it():
    data = report_data()
    one = data.ranked_lists[0]
    query = int(np.flatnonzero(~data.histories.query_valid)[0])
    one.rank[:] = 15
    one.top[:] = (np.arange(20) + 1)[None, :]
    targets = data.histories.targets.copy()
    targets[:] = 0
    missed = render_page(
        data._replace(histories=data.histories._replace(targets=targets), ranked_lists=[one]), ReportParams(users=1)
    )
    assert "tile hit" not in missed
    one.top[:, 4] = 0
    one.rank[:] = 5
    page_with_hit = render_page(
        data._replace(histories=data.histories._replace(targets=targets), ranked_lists=[one]), ReportParams(users=1)
    )
    assert page_with_hit.count("tile hit") == 1
    assert query >= 0


def test_example_users_are_of_every_outcome_and_of_the_test_part():
    ranks = [np.array([1, 1, 99, 99, 1]), np.array([1, 99, 1, 99, 1])]
    top, candidates = np.zeros((5, 20), dtype=np.int32), np.full(5, 99)
    shown = [RankedLists(str(place), top, rank, candidates) for place, rank in enumerate(ranks)]
    test = np.array([True, True, True, True, False])
    assert choose_queries(shown, test, 4, 10) == [0, 1, 2, 3]
    assert choose_queries(shown, test, 9, 10) == [0, 1, 2, 3]
    assert choose_queries(shown, test, 2, 10) == [0, 1]


@pytest.mark.parametrize(
    "names", [("popularity",), ("popularity", "oracle"), ("mme_sid",), ("mme_sid", "dmesr_sasrec", "sasrec")]
)
def test_any_set_of_recommenders_makes_a_page(names):
    text = render_page(report_data(names=names), ReportParams())
    _read(text)
    for name in names:
        assert name in text


def test_the_best_method_is_chosen_on_validation():
    board = dict(report_data(names=("mme_sid", "dmesr_a", "sasrec")).leaderboard)
    assert best_method_and_baseline(board) == ("mme_sid", "sasrec")
    board["recommenders"] = {name: one for name, one in board["recommenders"].items() if name != "mme_sid"}
    assert best_method_and_baseline(board) == ("dmesr_a", "sasrec")


def test_the_leaderboard_document_can_be_written_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    board = report_data().leaderboard
    LEADERBOARD.write(board)
    assert LEADERBOARD.read()["best_baseline"] == board["best_baseline"]
    assert ITEMS.path.startswith("artifacts/")


def _text(made: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", made, flags=re.DOTALL)).split())


def test_every_item_of_a_group_of_collisions_counts():
    text = _text(render_page(report_data(), ReportParams()))
    assert "Compared with residual k-means" in text and "0.7125" in text and "0.6375" in text
    assert "12.5 % of 24 items share all their codes with another one before suffixes: 3 items in 1 group." in text
    assert "Among the 20 items with distinct inputs: 10.0 %." in text
    assert "After reassignment" not in text


def test_training_that_ended_while_it_still_improved_is_marked():
    data, warning = report_data(), "still improving at the limit of epochs"
    assert warning not in render_page(data, ReportParams())
    late = data._replace(summaries={**data.summaries, "sasrec": {"best_epoch": 3}})
    assert render_page(late, ReportParams()).count(warning) == 1
    unjudged = [{"epoch": "1", "loss": "3"}, {"epoch": "2", "loss": "2"}]
    assert not still_improving(unjudged, {"best_epoch": 2})
    judged = [{"epoch": "1", "valid_ndcg_at_10": "0.1"}, {"epoch": "2", "valid_ndcg_at_10": "0.2"}]
    meant_to = {"loop": {"schedule": "cosine"}}
    assert still_improving(judged, {"best_epoch": 2})
    assert not still_improving(judged, {"best_epoch": 2, "params": meant_to})
    assert not still_improving(judged, {"best_epoch": 2, "params": {"model": meant_to}})


def test_terms_lead_to_definitions_with_the_thresholds_of_the_run():
    text = render_page(report_data(), ReportParams())
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{anchor}"' in text
    for text_part in (
        "hold 25\u2009% of",
        "hold 40\u2009% of",
        "more than 4 earlier",
        "above 0.001 of",
    ):
        assert text_part in text
    assert {"term-effective-rank", "term-perplexity", "term-head", "term-minimum-detectable-effect"} <= set(
        re.findall(r'id="([^"]+)"', text)
    )


def test_only_slices_that_divide_the_queries_are_shown():
    anchors = set(re.findall(r'id="([^"]+)"', render_page(report_data(), ReportParams())))
    assert {"term-last-event", "term-earlier-event", "term-medium-history", "term-without-picture"} <= anchors
    assert not {"term-short-history", "term-without-text"} & anchors  # of none, or of all


def test_only_methods_get_a_verdict_on_the_page():
    data = report_data()
    text = render_page(data, ReportParams())
    assert text.count("not under test") == 1  # one baseline; the best one is what they are compared with
    assert len(re.findall(r'class="chip (?:shown|behind|contradicted|undecided)"', text)) == 3  # two cards, one row


def test_duplicates_are_named_with_the_setting_that_differs():
    data = report_data()
    assert "the same ranks" not in render_page(data, ReportParams())
    board = {**data.leaderboard, "equal": [["popularity", "sasrec"]]}
    chosen = {"popularity": {"chosen": {"window": 2}}, "sasrec": {"chosen": {"window": 2, "content": 0.0}}}
    text = render_page(data._replace(leaderboard=board, summaries={**data.summaries, **chosen}), ReportParams())
    assert "same ranks as sasrec" in text
    assert '<p class="note">popularity and sasrec give every query the same ranks' in text
    assert "sasrec has the setting content, chosen on validation as 0." in text
    assert "setting window" not in text


def test_a_blend_of_the_weight_0_says_that_the_added_recommender_adds_nothing():
    data = report_data()
    names = {"base": "popularity", "added": "oracle"}
    blends = {name: {"chosen": {"weight": 0.0}, "params": names} for name in ("sasrec", "mme_sid")}
    board = {**data.leaderboard, "best_baseline": "sasrec", "equal": [["popularity", "sasrec", "mme_sid"]]}
    base = {"popularity": {"chosen": {"window": 2}}}
    data = data._replace(leaderboard=board, summaries={**data.summaries, **base, **blends})
    text = render_page(data, ReportParams())
    assert text.count("<small>oracle adds nothing: weight 0</small>") == 2
    sentence = "sasrec is popularity alone: validation gave oracle the weight 0, so it adds nothing here."
    assert text.count(sentence) == 2  # at the head of the page, and below the leaderboard
    assert "count them as one recommender." in text and "has the setting" not in text


def test_a_blend_with_a_weight_has_no_such_sentence():
    data = report_data()
    blend = {"chosen": {"weight": 0.05}, "params": {"base": "popularity", "added": "oracle"}}
    text = render_page(data._replace(summaries={**data.summaries, "sasrec": blend}), ReportParams())
    assert "adds nothing" not in text
