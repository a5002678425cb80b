"""Every number of the page against the artifacts that it was written from, written out by the test itself."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.unit.report.cases import report_data

from sidflow.report.charts import difference_bar, interval_bar
from sidflow.report.data import ReportParams
from sidflow.report.page import render_page

RECOMMENDERS = ("popularity", "sasrec", "mme_sid", "oracle")
SETTINGS = ReportParams(users=4, history=3, recommendations=10)


def fixed(value, digits=4):
    return f"{value:.{digits}f}".replace("-", "\u2212")


def share(value, signed=False, digits=1):
    return f"{100 * value:{'+' if signed else ''}.{digits}f}\u2009%".replace("-", "\u2212")


def text_of(node):
    return "".join(node.itertext()).strip()


def classed(node, name, style):
    return [one for one in node.iter(name) if style in one.get("class", "").split()]


@pytest.fixture(scope="module")
def data():
    """A page whose recommenders differ in every number, so that none can stand for another."""
    made = report_data()
    for name, metrics in made.metrics.items():
        offset = RECOMMENDERS.index(name) / 10
        assert isinstance(metrics, dict)
        metrics |= {"item_table_effective_rank": 3 + offset, "item_table_isotropy": 0.5 + offset / 2}
        metrics |= {"item_table_alive_share": 0.25 + offset, "item_table_mean_cosine": 0.125 - offset}
        metrics |= {"item_table_information_abundance": 2 + offset}
    return made


@pytest.fixture(scope="module")
def page(data):
    text = render_page(data, SETTINGS).removeprefix("<!doctype html>")
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return ET.fromstring(re.sub(r"(<meta [^>]*)>", r"\1/>", text))


def section(page, title):
    (found,) = [one for one in page.iter("section") if one.find("h2") is not None and text_of(one.find("h2")) == title]
    return found


def rows_of(part, table=0):
    """Return the cells of a table by the recommender or modality that its rows name."""
    body = list(part.iter("tbody"))[table]
    return {text_of(next(iter(row.find("th").iter("span")), row.find("th"))): row.findall("td") for row in body}


def lines_of(cell):
    return [text_of(one) for one in cell if one.tag in ("b", "small", "span")]


def test_the_leaderboard_row_by_row(data, page):
    board, rows = data.leaderboard, rows_of(section(page, "Leaderboard"))
    means = {name: entry["metrics"]["ndcg_at_10"]["mean"] for name, entry in board["recommenders"].items()}
    assert len(set(means.values())) == len(RECOMMENDERS)
    ordered = sorted(set(RECOMMENDERS) - {"oracle"}, key=lambda name: -means[name])
    assert list(rows) == [*ordered, "oracle"]
    baseline = means[board["best_baseline"]]
    for name, cells in rows.items():
        metrics = board["recommenders"][name]["metrics"]
        value = metrics["ndcg_at_10"]
        assert value["low"] < value["mean"] < value["high"]
        assert lines_of(cells[1]) == [fixed(value["mean"]), f"{fixed(value['low'])} to {fixed(value['high'])}"]
        title = text_of(cells[0].find("svg/title"))
        assert title == f"nDCG@10 of {name}: {fixed(value['mean'])}, from {fixed(value['low'])} to " + fixed(
            value["high"]
        )
        assert [text_of(cell) for cell in cells[5:7]] == [
            fixed(metrics[metric]["mean"]) for metric in ("recall_at_10", "mrr_at_10")
        ]
        assert text_of(cells[7]) == share(data.metrics[name]["expected_ndcg_at_10_of_best"], digits=0)
        difference = board["differences"].get(name, {}).get("ndcg_at_10")
        if difference is None:
            assert not text_of(cells[3]) and not text_of(cells[4])
            continue
        assert difference["low"] < difference["difference"] < difference["high"]
        assert difference["difference"] == pytest.approx(value["mean"] - baseline)
        assert lines_of(cells[3]) == [
            share(difference["difference"] / baseline, True),
            f"{share(difference['low'] / baseline, True)} to {share(difference['high'] / baseline, True)}",
            f"detectable {share(difference['detectable'] / baseline)}",
        ]
        span = f"{fixed(difference['low'])} to {fixed(difference['high'])}"
        shown = text_of(cells[2].find("svg/title"))
        assert shown == f"{name} minus the best baseline: {fixed(difference['difference'])}, from {span}"
        if name == "mme_sid":
            label = {"shown": "shown ahead", "behind": "shown behind", "contradicted": "gain contradicted"}
            assert lines_of(cells[4]) == [
                label.get(difference["verdict"], difference["verdict"]),
                f"p {fixed(difference['p_corrected'], 3)}",
                f"claimed +4\u2009%: {difference['claim']}",
            ]


def test_the_cards_of_the_head(data, page):
    """The method's value beside the baseline's, in the metric that the card names, with the method's own interval."""
    board, best = data.leaderboard, data.leaderboard["best_baseline"]
    cards = classed(page, "article", "finding")
    assert len(cards) == 2
    for card, metric in zip(cards, ("ndcg_at_10", "expected_ndcg_at_10"), strict=True):
        told = {text_of(k): text_of(v) for k, v in zip(card.find("dl")[::2], card.find("dl")[1::2], strict=True)}
        mean, baseline = (board["recommenders"][n]["metrics"][metric]["mean"] for n in ("mme_sid", best))
        difference = board["differences"]["mme_sid"][metric]
        assert fixed(mean) != fixed(baseline)
        assert (told["mme_sid"], told[best]) == (fixed(mean), fixed(baseline))
        assert told["difference"] == share(mean / baseline - 1, True)
        low, high = (share(difference[end] / baseline, True) for end in ("low", "high"))
        assert told["95\u2009% interval"] == f"{low} to {high}"
        assert told["minimum detectable effect"].startswith(share(difference["detectable"] / baseline, True))
        if difference["low"] > 0 or difference["high"] < 0:
            assert f"p is {fixed(difference['p_corrected'], 3)}" in told["ahead at all?"]
    facts = {text_of(one.find("dt")): text_of(one.find("dd")) for one in classed(page, "dl", "facts")[0]}
    assert facts == {"users": "12", "candidate items": "24", "test queries": "12"}
    lead = text_of(classed(page, "p", "lead")[0])
    own, other = (share(data.metrics[name]["expected_ndcg_at_10_of_best"], digits=0) for name in ("mme_sid", best))
    assert f"mme_sid reaches {own} of it, {best} {other}." in lead


def test_each_row_of_the_slices_is_its_own_recommenders(data, page):
    part = section(page, "Metrics by kinds of queries")
    heads = [
        (text_of(head).removesuffix(text_of(head.find("small"))), text_of(head.find("small")))
        for head in part.iter("th")
        if head.find("small") is not None
    ]
    rows = rows_of(part)
    assert set(rows) == set(RECOMMENDERS) and len(heads) > 4
    for name, cells in rows.items():
        known = {row["slice"].replace("_", " "): row for row in data.slices[name]}
        for (title, users), cell in zip(heads, cells, strict=True):
            assert users == f"{known[title]['users']} users"
            assert text_of(cell) == fixed(float(known[title]["ndcg_at_10"]), 3)
    texts = [[text_of(cell) for cell in cells] for cells in rows.values()]
    assert len({tuple(row) for row in texts}) == len(texts)
    for column, (title, _) in enumerate(heads):  # the best of a column is darkest, the worst lightest
        own = {
            name: float(next(r["ndcg_at_10"] for r in data.slices[name] if r["slice"].replace("_", " ") == title))
            for name in RECOMMENDERS[:3]
        }
        low, high = min(own.values()), max(own.values())
        for name, value in own.items():
            heat = (value - low) / (high - low) if high > low else 0.0
            assert rows[name][column].get("style") == f"--heat:{heat:.2f}"


def test_example_users_have_their_own_ranks_hits_and_last_items(data, page):
    cards = section(page, "Example users").findall("article")
    queries = np.flatnonzero(~data.histories.query_valid)
    titles = [title or f"item {key}" for title, key in data.items.select("title", "item_key").iter_rows()]
    outcomes = {query: tuple(one.rank[query] <= 10 for one in data.ranked_lists) for query in queries}
    expected = []
    for outcome in ((True, True), (True, False), (False, True), (False, False)):
        expected += [query for query in queries if outcomes[query] == outcome][:1]
    assert len(expected) >= 2 and len(cards) == 4
    shown = expected + [query for query in queries if query not in expected]
    for card, query in zip(cards, shown[: len(expected)], strict=False):
        strips = classed(card, "div", "strip")
        history = data.histories.history(query)
        target = int(data.histories.targets[query])
        tiles = [text_of(one.find("figcaption")) for one in strips[0].findall("figure")]
        assert tiles == [*(titles[item] for item in history[-3:]), f"next: {titles[target]}"]
        earlier = [text_of(one) for one in classed(strips[0], "span", "earlier")]
        assert earlier == ([f"{len(history) - 3} earlier"] if len(history) > 3 else [])
        for ranked, head, strip in zip(data.ranked_lists, card.findall("h4")[1:], strips[1:], strict=True):
            rank = int(ranked.rank[query])
            note = head.find("small")
            assert text_of(head).startswith(ranked.name)
            assert text_of(note) == f"target at rank {rank}"
            assert note.get("class") == ("yes" if rank <= 10 else "no")
            figures = strip.findall("figure")
            assert [text_of(one.find("figcaption")) for one in figures] == [
                f"{place}. {titles[item]}" for place, item in enumerate(ranked.top[query, :10], start=1)
            ]
            assert ["hit" in one.get("class") for one in figures] == [item == target for item in ranked.top[query, :10]]


def test_the_other_tables(data, page):
    rows = rows_of(section(page, "Use of dimensions"))
    for name, cells in rows.items():
        metrics = data.metrics[name]
        assert [text_of(cell) for cell in cells] == [
            "4",
            fixed(metrics["item_table_effective_rank"], 1),
            fixed(metrics["item_table_information_abundance"], 1),
            *(fixed(metrics[f"item_table_{kind}"], 2) for kind in ("alive_share", "isotropy", "mean_cosine")),
        ]
    ablated = section(page, "Ablations of MME-SID")
    for row, known in zip(next(ablated.iter("tbody")), data.ablations["rows"], strict=True):
        cells = row.findall("td")
        assert text_of(cells[0]) == fixed(known["mean"])
        if "low" in known:
            low, high = (f"{known[end]:+.4f}".replace("-", "\u2212") for end in ("low", "high"))
            assert lines_of(cells[2]) == [f"{known['difference']:+.4f}".replace("-", "\u2212"), f"{low} to {high}"]
            assert text_of(cells[3]) == fixed(known["detectable"])
        assert text_of(cells[-1]) == "3"
    reference = next(section(page, "Semantic IDs: use of the codes").iter("tbody"))
    recalls = [text_of(row.findall("td")[0]) for row in reference]
    assert recalls == ["\u2013", "\u2013", "0.7125", "0.6375"]  # image and text, of these IDs and of the reference


def number_of(node, name):
    return float(node.get(name))


@pytest.mark.parametrize(("mean", "low", "high"), [(0.2, 0.1, 0.4), (-0.3, -0.4, -0.1), (0.0, -0.1, 0.2)])
def test_a_difference_bar_has_worse_on_the_left_and_better_on_the_right(mean, low, high):
    """150 wide with 4 at either side: 0 is at 75, the ends of the axis at 4 and 146."""
    bar = ET.fromstring(difference_bar("a", mean, low, high, 0.5, "method"))
    zero, span = bar.findall("line")
    assert (number_of(zero, "x1"), number_of(zero, "x2")) == (75, 75)
    assert number_of(span, "x1") == pytest.approx(75 + 142 * low, abs=0.01)
    assert number_of(span, "x2") == pytest.approx(75 + 142 * high, abs=0.01)
    assert number_of(bar.find("circle"), "cx") == pytest.approx(75 + 142 * mean, abs=0.01)
    assert bar.find("path") is None


@pytest.mark.parametrize(("mean", "tip", "tail"), [(-0.9, 2, 7), (0.9, 148, -7)])
def test_a_point_beyond_the_axis_is_an_arrow_that_points_to_its_side(mean, tip, tail):
    bar = ET.fromstring(difference_bar("a", mean, mean - 0.1, mean + 0.1, 0.5, "method"))
    assert bar.find("circle") is None
    assert bar.find("path").get("d") == f"M{tip},11l{tail},-5v10Z"


def test_an_interval_bar_has_its_whisker_from_low_to_high():
    """260 wide with 4 left over: 0 is at 0 and the end of the axis at 256."""
    bar = ET.fromstring(interval_bar("a", 0.5, 0.25, 0.625, 1.0, "method", ceiling=0.75))
    assert number_of(bar.find("rect"), "width") == 128
    whisker, low, high, ceiling = bar.findall("line")
    assert (number_of(whisker, "x1"), number_of(whisker, "x2")) == (64, 160)
    assert (number_of(low, "x1"), number_of(low, "x2")) == (64, 64)
    assert (number_of(high, "x1"), number_of(high, "x2")) == (160, 160)
    assert (number_of(ceiling, "x1"), number_of(ceiling, "x2")) == (192, 192)
    assert math.isclose(number_of(ceiling, "y2"), 22)
