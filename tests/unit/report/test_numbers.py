"""Every number of the page against the artifacts that it was written from, written out by the test itself."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.unit.report.reading import (
    RECOMMENDERS,
    classed,
    fixed,
    heads_of,
    lines_of,
    listed,
    number_of,
    points_of,
    rows_of,
    section,
    share,
    text_of,
)

from sidflow.report.charts import difference_bar, interval_bar
from sidflow.report.data import ReportParams
from sidflow.report.sections.examples import Gallery, _user_card

GAIN, LEVEL, POWER = "+4\u2009%", "95\u2009%", "80\u2009%"  # claimed_gain, level and power of the leaderboard


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
                f"claimed {GAIN}: {difference['claim']}",
            ]


def test_the_leaderboards_heads_and_notes(data, page):
    part = section(page, "Leaderboard")
    assert heads_of(part) == [
        "recommender",
        "",
        "realised nDCG@10",
        "",
        "against the best baseline",
        "verdict",
        "Recall@10",
        "MRR@10",
        "of the best possible",
        "cost: train, with inputs, memory, serving",
    ]
    note = text_of(classed(part, "p", "note")[0])
    assert f"Whiskers: {LEVEL} intervals over 34\u2009567 users; p corrected for 2 comparisons" in note
    assert f"the effect that would be shown with {POWER} power" in note
    assert f"the difference is above 0, not that it is the claimed {GAIN}" in note
    assert "means that it is below 0, by the same rule" in note
    assert note.endswith(" Dashed: the oracle, which ranks by the generator's true probabilities.")


def test_the_leaderboards_charts_are_to_scale(data, page):
    """Bars from 0 to 256 end at the highest upper bound and 2% more; differences at the farthest charted one."""
    board = data.leaderboard
    metrics = {name: entry["metrics"]["ndcg_at_10"] for name, entry in board["recommenders"].items()}
    scale = 256 / (1.02 * max(value["high"] for value in metrics.values()))
    differences = {name: one["ndcg_at_10"] for name, one in board["differences"].items()}
    charted = [one for one in differences.values() if one["relative"] > -0.5]
    end = max(abs(one[side]) for one in charted for side in ("low", "high"))
    for name, cells in rows_of(section(page, "Leaderboard")).items():
        assert number_of(next(cells[0].iter("rect")), "width") == pytest.approx(metrics[name]["mean"] * scale, abs=0.01)
        whisker, *_, best_possible = cells[0].iter("line")
        for side, value in (("x1", metrics[name]["low"]), ("x2", metrics[name]["high"])):
            assert number_of(whisker, side) == pytest.approx(value * scale, abs=0.01)
        assert number_of(best_possible, "x1") == pytest.approx(metrics["oracle"]["mean"] * scale, abs=0.01)
        if name in differences:
            _, span = cells[2].iter("line")
            for side, bound in (("x1", "low"), ("x2", "high")):
                expected = min(146, max(4, 75 + 71 * differences[name][bound] / end))
                assert number_of(span, side) == pytest.approx(expected, abs=0.01)


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
        assert told[f"{LEVEL} interval"] == f"{low} to {high}"
        assert (
            told["minimum detectable effect"] == f"{share(difference['detectable'] / baseline, True)} at {POWER} power"
        )
        if difference["low"] > 0:
            assert told["ahead at all?"] == (
                f"Shown: the interval lies above 0 and p is {fixed(difference['p_corrected'], 3)} after correction for "
                "2 comparisons."
            )
            assert told[f"ahead by {GAIN}?"] == f"Reached: the whole interval lies at {GAIN} or above."
        else:
            assert told["ahead at all?"] == "Undecided: the interval holds 0."
            assert told[f"ahead by {GAIN}?"] == f"Open: the interval holds {GAIN}, and smaller gains too."
        title = [text_of(one) for one in card.find("h3")]
        assert title[0] == ("expected nDCG@10" if "expected" in metric else "realised nDCG@10")
    assert {card.find("p").text for card in cards} >= {"on the held-out targets of 34\u2009567 users"}
    assert listed(classed(page, "dl", "facts")[0]) == {
        "users": "1\u2009234\u2009567",
        "candidate items": "24",
        "interactions": "98\u2009765",
        "items with a picture": "21",
        "candidate items with text": "23",
        "test queries": "45\u2009678",
    }
    assert text_of(classed(page, "p", "eyebrow")[0].find("span")) == "preset shop 58"
    assert text_of(next(page.iter("h1"))) == f"mme_sid is not shown to be ahead of {best} in realised nDCG@10"
    lead = text_of(classed(page, "p", "lead")[0])
    own, other = (share(data.metrics[name]["expected_ndcg_at_10_of_best"], digits=0) for name in ("mme_sid", best))
    assert f"by the claimed gain of {GAIN}?" in lead
    assert f"the best possible expected nDCG@10 can be computed: mme_sid reaches {own} of it, {best} {other}." in lead


def _slice_interval(data, name, title):
    whole = data.leaderboard["recommenders"][name]["metrics"]["ndcg_at_10"]
    interval = whole if title == "all" else data.slice_intervals[name][title.replace(" ", "_")]
    return f"{fixed(interval['low'], 3)} to {fixed(interval['high'], 3)}"


def test_each_row_of_the_slices_is_its_own_recommenders(data, page):
    part = section(page, "Metrics by kinds of queries")
    note = text_of(classed(part, "p", "note")[0])
    assert note.startswith("Realised nDCG@10 by the target's popularity")
    assert f"Small: {share(data.leaderboard['level'], digits=0)} interval over the users of the slice" in note
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
            span = _slice_interval(data, name, title)
            assert (cell.text, text_of(cell.find("small"))) == (fixed(float(known[title]["ndcg_at_10"]), 3), span)
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
    kinds = ((True, True), (True, False), (False, True), (False, False))
    of_kind = [[query for query in queries if outcomes[query] == kind] for kind in kinds]
    in_turn = [query for one in itertools.zip_longest(*of_kind) for query in one if query is not None]
    assert sum(map(bool, of_kind)) >= 2 and len(cards) == 4
    for card, query in zip(cards, in_turn[:4], strict=True):
        strips = classed(card, "div", "strip")
        history = data.histories.history(query)
        target = int(data.histories.targets[query])
        assert text_of(card.find("h3")) == f"user {data.user_keys[data.histories.query_user[query]]}"
        tiles = [text_of(one.find("figcaption")) for one in strips[0].findall("figure")]
        assert tiles == [*(titles[item] for item in history[-3:]), f"next: {titles[target]}"]
        for one in card.iter("figure"):
            assert text_of(classed(one, "span", "face")[0]) in ("", one.find("figcaption").get("title"))
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


@pytest.mark.parametrize(("in_history", "where"), [(True, "in the history"), (False, "not on the list")])
def test_a_target_that_is_no_candidate_has_no_rank(data, in_history, where):
    """A miss is stored as a rank behind all candidates."""
    query = int(np.flatnonzero(~data.histories.query_valid)[0])
    lists = [one._replace(rank=one.candidates + 1) for one in data.ranked_lists]
    targets = data.histories.targets.copy()
    if in_history:
        targets[query] = data.histories.history(query)[0]
    missed = data._replace(ranked_lists=lists, histories=data.histories._replace(targets=targets))
    card = str(_user_card(missed, Gallery({}, dict(enumerate(data.items["title"])), 8, 80), query, ReportParams()))
    assert card.count(f"target without a rank: it is {where}") == len(lists)
    assert "target at rank" not in card


def test_example_items_have_their_own_codes(data, page):
    part = section(page, "Example items")
    shown = [0, 4, 9, 13, 18, 23]  # six of 24, evenly spaced
    cards = part.findall("article")
    assert part.find("p").text.startswith("Descriptions written by writer 36. ")
    ids = {(item, modality): (codes, suffix) for item, modality, codes, suffix in data.semantic_ids.iter_rows()}
    for card, item in zip(cards, shown, strict=True):
        title = data.items["title"][item] or f"item k{item}"
        assert text_of(card.find("div/h3")) == title
        assert listed(card.find("div/dl")) == {"text": f"view {item}"}
        assert {text_of(one) for one in classed(card, "span", "face")} <= {"", title}
        told = {text_of(line[0]): [text_of(chip) for chip in line[1:]] for line in classed(card, "div", "ids")[0]}
        expected = {}
        for modality in ("image", "text"):
            codes, suffix = ids[item, modality]
            expected[modality] = [*map(str, codes), *([f"+{suffix}"] if suffix else [])]
        assert told == expected
        for chip in classed(card, "span", "code"):
            if not text_of(chip).startswith("+"):
                assert chip.get("style") == f"--hue:{int(text_of(chip)) * 137 % 360}"


def test_use_of_dimensions(data, page):
    part = section(page, "Use of dimensions")
    rows = rows_of(part)
    assert set(rows) == set(RECOMMENDERS)
    for name, cells in rows.items():
        metrics = data.metrics[name]
        assert [text_of(cell) for cell in cells] == [
            "4",
            fixed(metrics["item_table_effective_rank"], 1),
            fixed(metrics["item_table_information_abundance"], 1),
            *(fixed(metrics[f"item_table_{kind}"], 2) for kind in ("alive_share", "isotropy", "mean_cosine")),
        ]


def test_the_chart_of_singular_values(data, page):
    """Relative to the largest, from 1/4 of the dimensions at 46 to all at 590; 6% above and below the extremes."""
    chart = next(section(page, "Use of dimensions").iter("svg"))
    lines = {text_of(path): points_of(path) for path in classed(chart, "path", "line")}
    spectra = {
        name: [float(row["singular_value"]) for row in data.spectra[name] if row["matrix"] == "item_table"]
        for name in RECOMMENDERS
    }
    relative = {name: [value / values[0] for value in values] for name, values in spectra.items()}
    lowest = min(map(min, relative.values()))
    low, high = lowest - 0.06 * (1 - lowest), 1 + 0.06 * (1 - lowest)

    def height(value):
        return 286 - 258 * (value - low) / (high - low)

    for name, values in relative.items():
        expected = [(46 + 544 * (place - 1) / 3, height(value)) for place, value in enumerate(values, start=1)]
        assert np.array(lines[name]) == pytest.approx(np.array(expected), abs=0.06)
    ticks = {text_of(one): one for one in classed(chart, "text", "tick")}
    assert len(ticks) >= 4
    for one in classed(chart, "text", "tick"):
        if "middle" in one.get("class"):
            assert number_of(one, "x") == pytest.approx(46 + 544 * (float(text_of(one)) - 0.25) / 0.75, abs=0.01)
        else:
            assert number_of(one, "y") - 4 == pytest.approx(height(float(text_of(one))), abs=0.01)
    assert text_of(classed(chart, "text", "axis")[1]) == "singular value, largest = 1"


def test_the_rows_of_the_ablations(data, page):
    part = section(page, "Ablations of MME-SID")

    def signed(value):
        return f"{value:+.4f}".replace("-", "\u2212")

    assert heads_of(part)[1] == "nDCG@10"
    for row, told in zip(next(part.iter("tbody")), data.ablations["rows"], strict=True):
        mean, _, difference, *rest = row.findall("td")
        assert (text_of(row.find("th")), text_of(mean)) == (told["row"], fixed(told["mean"]))
        assert [text_of(cell) for cell in rest] == [
            fixed(told["detectable"]) if "detectable" in told else "\u2013",
            fixed(told["effective_rank"], 1),
            fixed(told["alive_share"], 2),
            fixed(told["tau_of_codes"], 3),
            str(told["seeds"]),
        ]
        if "difference" in told:
            span = f"{signed(told['low'])} to {signed(told['high'])}"
            assert lines_of(difference) == [signed(told["difference"]), span]
            title = f"{told['row']} minus the full model: {signed(told['difference'])}, from {span}"
            assert text_of(next(row.iter("title"))) == title
    assert text_of(classed(part, "p", "note")[0]).endswith("at commit 0123456789.")


def test_the_definitions_have_the_thresholds_of_the_run(data, page):
    cuts = {name: f"{value:g}" for name, value in data.slice_cuts.items()}
    gain, level, power = "4", "95", "80"  # in percent
    numbers = {
        "claimed gain": [gain, "4", "5", "4", "10", "2509.02017"],  # the default, nDCG@5, the gains reported, arXiv
        "effective rank": ["1", "1"],
        "head": ["25"],
        "information abundance": ["1"],
        "interval": [level],
        "isotropy": ["0", "1"],
        "long history": [cuts["long_history"]],
        "medium history": [cuts["short_history"], cuts["long_history"]],
        "minimum detectable effect": [power, level],
        "MRR": ["1", "0"],
        "nDCG": ["1", "2", "1", "0"],
        "of the best possible": ["10"],
        "perplexity": ["1"],
        "reconstruction error": ["0", "1"],
        "share not collapsed": ["0.001"],
        "spread of lengths": ["0"],
        "tail": ["40"],
        "tau": ["1", "0"],
        "verdict": ["0", "0.05", "0", gain],
    }
    told = {term: re.findall(r"\d+(?:\.\d+)?", text) for term, text in listed(section(page, "Terms")).items()}
    assert {term: found for term, found in told.items() if found} == numbers
    assert f"+{gain}\u2009%, relative" in text_of(section(page, "Terms"))


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
