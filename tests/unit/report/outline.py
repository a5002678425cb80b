"""The outline of a page: its elements with their classes and texts, numbers left out, equal neighbours written once.

`python -m tests.unit.report.outline` writes that of the test page to `outline.txt`, which a test compares.
"""

import re
from pathlib import Path

from tests.unit.report.conftest import distinct_data, page_settings
from tests.unit.report.reading import parse

from sidflow.report.page import render_page

OUTLINE = Path(__file__).with_name("outline.txt")
_SHOWN = ("class", "scope", "role", "href", "id", "lang", "charset", "name", "content", "aria-hidden")
_WIDEST = 160  # characters of a line that holds an element and its children
_LONGEST = 90  # characters of a text that are written down


def outline_of(node, depth=0):
    """Return the lines of an element and what it holds: one line where that is short."""
    attributes = "".join(f" {name}={_brief(node.get(name))}" for name in _SHOWN if name in node.attrib)
    style = re.sub(r"[\d.]+", "#", node.get("style", ""))
    head = node.tag + attributes + (f" style={style}" if style else "") + _text(node.text)
    blocks = []
    for child in node:
        block = outline_of(child, depth + 1)
        if (child.tail or "").strip():
            block = [*block, "  " * (depth + 1) + "|" + _text(child.tail)]
        if blocks and blocks[-1][0] == block:
            blocks[-1][1] += 1
        else:
            blocks.append([block, 1])
    lines = []
    for block, count in blocks:
        lines += [block[0] + (f" x{count}" if count > 1 else ""), *block[1:]]
    inline = f"{head} ({', '.join(line.strip() for line in lines)})" if lines else head
    if len(inline) < _WIDEST and len(lines) == len(blocks):
        return ["  " * depth + inline]
    return ["  " * depth + head, *lines]


def _text(text):
    return f" {_brief(text)!r}" if (text or "").strip() else ""


def _brief(text):
    return re.sub(r"\d+([.\u2009]\d+)*", "#", text.strip())[:_LONGEST]


def written():
    """Return the outline of the page that the tests of its numbers read."""
    return "\n".join(outline_of(parse(render_page(distinct_data(), page_settings())))) + "\n"


if __name__ == "__main__":
    OUTLINE.write_text(written(), encoding="utf-8")
