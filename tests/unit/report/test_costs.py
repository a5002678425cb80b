"""Costs beside the page: cells of one leaderboard, filled by rules that name it."""

import re

from tests.unit.report.cases import report_data
from tests.unit.report.reading import classed, parse, rows_of, section, text_of

from sidflow.report.costs import LINES, costs_sheet, run_key
from sidflow.report.data import ReportParams
from sidflow.report.page import render_page


def _filled(page, sheet):
    """Return the texts that a style sheet puts into the lines of each recommender's cell."""
    rule = r'\[data-run="(\w+)"\] \[data-recommender="(.*?)"\] \[data-cost="(\w+)"\]::after\{content:"(.*?)";'
    texts = {(run, name, line): text for run, name, line, text in re.findall(rule, sheet)}
    board = section(page, "Leaderboard")
    (run,) = {body.get("data-run") for body in board.iter("tbody")}
    filled = {}
    for name, cells in rows_of(board).items():
        (cell,) = [cell for cell in cells if cell.get("class") == "costs"]
        lines = [one.get("data-cost") for one in cell]
        filled[name] = {line: texts.get((run, cell.get("data-recommender"), line)) for line in lines}
    return filled


def test_each_cell_is_filled_with_the_cost_of_its_recommender():
    data = report_data()
    page = parse(render_page(data, ReportParams()))
    names = list(data.leaderboard["recommenders"])
    costs = {name: {column: f"{row}-{column}" for column in LINES} for row, name in enumerate(names)}
    del costs[names[0]]["serve"]
    filled = _filled(page, costs_sheet(data.leaderboard, costs, ["cpu, 1 thread of 2 CPUs"]))
    assert filled == {name: dict.fromkeys(LINES) | costs[name] for name in names}


def test_the_costs_of_another_run_fill_no_cell():
    data = report_data()
    page = parse(render_page(data, ReportParams()))
    other = {**data.leaderboard, "users": data.leaderboard["users"] + 1}
    names = list(data.leaderboard["recommenders"])
    sheet = costs_sheet(other, {name: {"train": "1"} for name in names}, [])
    assert run_key(other) in sheet
    assert _filled(page, sheet) == {name: dict.fromkeys(LINES) for name in names}


def test_a_page_alone_says_that_nothing_was_measured():
    text = render_page(report_data(), ReportParams())
    assert 'td.costs small:first-child::after{content:"not measured here"' in text
    assert not [text_of(cell) for cell in classed(parse(text), "td", "costs") if text_of(cell)]


def test_text_in_a_rule_cannot_end_it():
    sheet = costs_sheet(report_data().leaderboard, {'a"]{}\n': {"train": '1"}body{display:none}\\'}}, ['"'])
    assert re.sub(r'"[^"\\\n]*(?:\\[0-9a-f]+ [^"\\\n]*)*"', "S", sheet).count("}") == 2
    assert len(sheet.splitlines()) == 2


def test_what_they_were_measured_on_is_said_in_the_note():
    board = report_data().leaderboard
    assert '::after{content:"Trained on: cuda; cpu."}' in costs_sheet(board, {}, ["cuda", "cpu"])
