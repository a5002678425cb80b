"""What each part of MME-SID is worth, where `sidflow ablations` has run."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from sidflow.report import charts
from sidflow.report.gather import Gathered
from sidflow.report.glossary import Glossary
from sidflow.report.markup import MINUS, Markup, join, number, tag

_FAR = 3.0  # medians: what is further off is drawn at the picture's edge, so that the others can be read


def ablations(given: Gathered, words: Glossary) -> Markup | None:
    """Return the table of rows, one thing off in each, with pictures of their differences from the whole."""
    if given.ablations is None:
        return None
    rows = given.ablations["rows"]
    ends = [max(abs(row["low"]), abs(row["high"])) for row in rows if "low" in row]
    reach = min(max(ends), _FAR * median(ends)) or 1.0 if ends else 1.0
    heads = [
        tag("th", "MME-SID", scope="col"),
        tag("th", words.metric(given.ablations["metric"]), scope="col"),
        tag("th", class_="picture", scope="col"),
        tag("th", "less the whole", scope="col"),
        tag("th", words.link("minimum detectable effect", "detectable"), scope="col"),
        tag("th", words.link("effective rank"), scope="col"),
        tag("th", words.link("share not collapsed"), scope="col"),
        tag("th", words.link("tau", "tau of code vectors"), scope="col"),
        tag("th", "seeds", scope="col"),
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", *heads)),
        tag("tbody", *[_row(row, reach) for row in rows]),
        class_="board",
    )
    return tag(
        "section",
        tag("h2", "What each part is worth"),
        tag("div", table, class_="wide"),
        tag(
            "p",
            "One thing is off in each row, everything else stays as it is. ",
            words.link("interval", "Intervals"),
            " are of the paired difference from the whole, over users, seeds averaged first; they are not corrected "
            f"for the number of rows. Run by sidflow ablations at commit {given.ablations['commit'][:10]}.",
            class_="note",
        ),
    )


def _row(row: Mapping, reach: float) -> Markup:
    cells = [tag("td", tag("b", number(row["mean"])))]
    if "difference" in row:
        span = f"{_signed(row['low'])} to {_signed(row['high'])}"
        style = "method" if row["low"] > 0 or row["high"] < 0 else "other"
        said = f"{row['row']} less the whole: {_signed(row['difference'])}, from {span}"
        bar = charts.difference_bar(said, row["difference"], row["low"], row["high"], reach, style)
        cells += [tag("td", bar, class_="picture narrow")]
        cells += [tag("td", join(tag("b", _signed(row["difference"])), tag("small", span)))]
    else:
        cells += [tag("td", class_="picture"), tag("td")]
    cells.append(tag("td", number(row.get("detectable"))))
    for name, digits in (("effective_rank", 1), ("alive_share", 2), ("tau_of_codes", 3)):
        cells.append(tag("td", number(row[name], digits)))
    return tag("tr", tag("th", row["row"], scope="row"), *cells, tag("td", number(row["seeds"])))


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", MINUS)
