"""The first part of the page: what was run, who is ahead, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report import charts
from sidflow.report.gather import Gathered, stars
from sidflow.report.markup import Markup, join, number, percent, tag

_FAR = -0.5  # a relative difference below that is drawn at the picture's edge, so that the others can be read

VERDICTS = {
    "shown": "The interval of the difference lies above zero, and the corrected p below its level",
    "contradicted": "The interval excludes the claimed gain",
    "undecided": "The data can tell neither",
}


def pretty(metric: str) -> str:
    """Return a metric's name as people write it.

    >>> pretty("ndcg_at_10")
    'nDCG@10'
    """
    words = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "expected": "expected"}
    name, _, k = metric.partition("_at_")
    return " ".join(words.get(part, part) for part in name.split("_")) + (f"@{k.replace('_', ' ')}" if k else "")


def look(name: str, board: Mapping) -> str:
    """Return the class that colours a recommender: `method`, `best` (baseline), `reference` or `other`."""
    if name == board["best_baseline"]:
        return "best"
    kind = board["recommenders"][name]["kind"]
    return "other" if kind == "baseline" else kind


def ordered(given: Gathered) -> list[str]:
    """Return recommenders from best to worst on the test part, references last."""
    board = given.leaderboard
    primary = board["primary"]

    def place(name: str) -> tuple[bool, float, str]:
        one = board["recommenders"][name]
        return one["kind"] == "reference", -one["metrics"][primary]["mean"], name

    return sorted(board["recommenders"], key=place)


def headline(given: Gathered) -> Markup:
    """Return the title, the sentence that sums the run up, and the sizes of the data."""
    board = given.leaderboard
    method, best = stars(board)
    facts = [
        ("users", given.ingest.get("users")),
        ("items to choose from", given.ingest.get("items_core", given.ingest.get("items"))),
        ("interactions", given.ingest.get("interactions")),
        ("items with a picture", given.ingest.get("items_with_picture")),
        ("items with text", given.ingest.get("items_with_text")),
        ("test queries", board["queries"]),
    ]
    tiles = [tag("div", tag("dd", number(value)), tag("dt", name)) for name, value in facts if isinstance(value, int)]
    return tag(
        "header",
        tag("p", "sidflow", tag("span", f"preset {given.preset}"), class_="eyebrow"),
        tag("h1", *_sentence(board, method, best)),
        _lead(given, method, best),
        tag("dl", *tiles, class_="facts"),
    )


def _sentence(board: Mapping, method: str | None, best: str | None) -> list[object]:
    primary = board["primary"]
    if method is None or best is None:
        return [f"{len(board['recommenders'])} recommenders, side by side"]
    found = board["differences"][method][primary]
    if found["verdict"] == "shown":
        return [tag("em", method), f" is {percent(found['relative'])} ahead of the best baseline"]
    if found["verdict"] == "contradicted":
        side = "does not gain" if found["high"] > 0 else "is behind"
        tail = (
            f"the claimed {percent(board['claimed_gain'])} on the best baseline"
            if found["high"] > 0
            else (f"the best baseline by {percent(-found['relative'])}")
        )
        return [tag("em", method), f" {side} {tail}"]
    return [tag("em", method), " and the best baseline cannot be told apart on this data"]


def _lead(given: Gathered, method: str | None, best: str | None) -> Markup | None:
    board = given.leaderboard
    primary = board["primary"]
    if method is None or best is None:
        return None
    mine, theirs = (board["recommenders"][name]["metrics"][primary] for name in (method, best))
    found = board["differences"][method][primary]
    sentences = [
        f"{pretty(primary)} {number(mine['mean'])} against {number(theirs['mean'])} of ",
        tag("b", best),
        f", the baseline that was best on validation. The difference lies between {number(found['low'])} and "
        f"{number(found['high'])}; with {number(board['users'])} users, nothing below "
        f"{number(found['detectable'])} would be shown reliably.",
    ]
    share = given.metrics[method].get("expected_ndcg_at_10_of_best")
    if share is not None:
        theirs_share = given.metrics[best].get("expected_ndcg_at_10_of_best")
        sentences.append(
            f" The generator of this catalogue is known: {method} reaches {percent(share)} of the best possible "
            f"expected nDCG@10, {best} {percent(theirs_share)}."
        )
        certain = board["differences"][method].get("expected_ndcg_at_10")
        if certain is not None:
            sentences.append(
                " In that expectation, free of the luck of which target was drawn, the difference lies between "
                f"{number(certain['low'])} and {number(certain['high'])}: {certain['verdict']}."
            )
    return tag("p", *sentences, class_="lead")


def leaderboard(given: Gathered) -> Markup:
    """Return the table of all recommenders, with pictures of intervals and differences, and verdicts."""
    board = given.leaderboard
    primary, names = board["primary"], ordered(given)
    everyone, differences = board["recommenders"], board["differences"]
    oracle = next((one["metrics"][primary]["mean"] for one in everyone.values() if one["kind"] == "reference"), None)
    top = max(one["metrics"][primary]["high"] for one in everyone.values())
    near = [found[primary] for found in differences.values() if (found[primary]["relative"] or 0) > _FAR]
    ends = [abs(found[end]) for found in near for end in ("low", "high")]
    reach = max(ends, default=0) or 1.0
    known = any(metrics.get("expected_ndcg_at_10_of_best") is not None for metrics in given.metrics.values())
    rows = []
    for name in names:
        one, found = everyone[name], differences.get(name, {}).get(primary)
        measured, style = one["metrics"], look(name, board)
        value = measured[primary]
        span = f"{number(value['low'])} to {number(value['high'])}"
        said = f"{pretty(primary)} of {name}: {number(value['mean'])}, from {span}"
        cells: list[object] = [
            tag("th", tag("span", name, class_=f"who {style}"), tag("small", _role(name, board)), scope="row"),
            tag(
                "td",
                charts.interval_bar(said, value["mean"], value["low"], value["high"], top * 1.02, style, oracle),
                class_="picture",
            ),
            tag(
                "td",
                tag("b", number(value["mean"])),
                tag("small", span),
            ),
        ]
        cells += [
            tag("td", number(measured[metric]["mean"]))
            for metric in ("recall_at_10", "mrr_at_10")
            if metric in measured
        ]
        if known:
            cells.append(tag("td", percent(given.metrics[name].get("expected_ndcg_at_10_of_best"))))
        cells += _difference(name, found, reach, style)
        rows.append(tag("tr", *cells, class_=style))
    heads = ["recommender", pretty(primary), "", "Recall@10", "MRR@10"]
    heads += ["of the best possible"] if known else []
    heads += ["against the best baseline", "", "verdict"]
    return tag(
        "section",
        tag("h2", "Leaderboard"),
        tag(
            "div",
            tag(
                "table",
                tag("thead", tag("tr", *[tag("th", head, scope="col") for head in heads])),
                tag("tbody", *rows),
                class_="board",
            ),
            class_="wide",
        ),
        _notes(given, oracle is not None),
    )


def _role(name: str, board: Mapping) -> str:
    if name == board["best_baseline"]:
        return "best baseline"
    kind = board["recommenders"][name]["kind"]
    return {"method": "under test", "reference": "knows the answer"}.get(kind, "baseline")


def _difference(name: str, found: Mapping | None, reach: float, style: str) -> list[Markup]:
    if found is None:
        return [tag("td", class_="picture"), tag("td"), tag("td")]
    span = f"{number(found['low'])} to {number(found['high'])}"
    said = f"{name} minus the best baseline: {number(found['difference'])}, from {span}"
    chip = tag("span", found["verdict"], class_=f"chip {found['verdict']}", title=VERDICTS[found["verdict"]])
    base = found["difference"] / found["relative"] if found["relative"] else 0
    detail = (
        f"detectable {percent(found['detectable'] / base)}" if base else f"detectable {number(found['detectable'])}"
    )
    return [
        tag(
            "td",
            charts.difference_bar(said, found["difference"], found["low"], found["high"], reach, style),
            class_="picture narrow",
        ),
        tag("td", tag("b", percent(found["relative"], signed=True)), tag("small", detail)),
        tag("td", chip, tag("small", f"p {number(found['p_corrected'], 3)}"), class_="verdict"),
    ]


def _notes(given: Gathered, has_oracle: bool) -> Markup:
    board = given.leaderboard
    parts: list[object] = [
        "Full ranking over all candidates, ties against the target. "
        f"Whiskers: {percent(board['level'])} intervals from a bootstrap over "
        f"{number(board['users'])} users, paired for differences; p corrected for the number of "
        "comparisons (Holm). Detectable: the smallest true difference that this many users would show with "
        f"{percent(board['power'])} power. ",
    ]
    for verdict, meaning in VERDICTS.items():
        parts += [tag("b", verdict), f": {meaning[0].lower()}{meaning[1:]}. "]
    parts.append(f"The claim under test: better than the best baseline by {percent(board['claimed_gain'])}.")
    if has_oracle:
        parts.append(" Dashed: the oracle, which ranks by the generator's true probabilities.")
    return tag("p", join(*parts), class_="note")


def _heat(values: Mapping[str, float]) -> dict[str, float]:
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    return {name: (value - low) / (high - low) if high > low else 0.0 for name, value in values.items()}


def slices(given: Gathered) -> Markup | None:
    """Return a table of the primary metric by kinds of queries, darker where better."""
    names = ordered(given)
    if not names or not given.slices[names[0]]:
        return None
    kept = [row["slice"] for row in given.slices[names[0]] if int(row["queries"]) > 0]
    users = {row["slice"]: int(row["users"]) for row in given.slices[names[0]]}
    values = {
        name: {row["slice"]: float(row["ndcg_at_10"]) for row in given.slices[name] if row["ndcg_at_10"]}
        for name in names
    }
    kinds = given.leaderboard["recommenders"]
    heat = {
        part: _heat({name: values[name].get(part, 0.0) for name in names if kinds[name]["kind"] != "reference"})
        for part in kept
    }
    head = tag(
        "tr",
        tag("th", "", scope="col"),
        *[
            tag("th", part.replace("_", " "), tag("small", f"{number(users[part])} users"), scope="col")
            for part in kept
        ],
    )
    rows = [
        tag(
            "tr",
            tag("th", tag("span", name, class_=f"who {look(name, given.leaderboard)}"), scope="row"),
            *[
                tag(
                    "td",
                    number(values[name].get(part), 3),
                    style=f"--heat:{heat[part].get(name, 0.0):.2f}",
                )
                for part in kept
            ],
        )
        for name in names
    ]
    return tag(
        "section",
        tag("h2", "Where it is won"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="heat"), class_="wide"),
        tag(
            "p",
            "nDCG@10 by the target's popularity in training (head, middle and tail each hold a share of training "
            "events; cold: never trained on), by the length of the history, and by whether the step from the last item "
            "to the target was seen in training. Darker is nearer to the best of the column.",
            class_="note",
        ),
    )
