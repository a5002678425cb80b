"""Titles, views and user keys with script, quotes, markup, marks of direction and invisible characters."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import polars as pl
import pytest
from tests.unit.report.cases import USERS, report_data

from sidflow.report.data import ReportParams
from sidflow.report.page import render_page

HOSTILE = (
    "<script>document.title='ran'</script>",
    '"><svg onload="document.title=\'ran\'">',
    "'\"`</title></style></figure><img src=x onerror=document.title='ran'>",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "\u202eevil\u202c \u2066left\u2069 \u200fright",
    "zero\u200bwidth\ufeff joined\u2060 soft\u00adhyphen \U000e0041tag",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 (1) abc",
    "\x00\x07\x1b[31mred\x7f",
    "{}</style><style>body{display:none}</style>",
    "w" * 300,
    "a\u0301" * 8 + "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f",
    "javascript:document.title='ran'",
)
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


@pytest.fixture(scope="module")
def page():
    data = report_data()
    titles = [HOSTILE[item % len(HOSTILE)] for item in range(data.items.height)]
    views = [HOSTILE[item % len(HOSTILE)] for item in range(data.semantics.height)]
    users = [HOSTILE[user % len(HOSTILE)] for user in range(USERS)]
    data = data._replace(
        items=data.items.with_columns(pl.Series("title", titles)),
        semantics=data.semantics.with_columns(pl.Series("text", views), pl.Series("writer", views)),
        user_keys=users,
        preset=HOSTILE[0],
    )
    return render_page(data, ReportParams(users=USERS, items=12))


class _Shown(HTMLParser):
    """Collects the tags, the names of attributes, and all text."""

    def __init__(self):
        super().__init__()
        self.tags, self.names, self.texts = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.texts += [value or "" for _, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def test_hostile_text_is_shown_as_it_is_and_nothing_of_it_is_markup(page):
    shown = _Shown()
    shown.feed(page)
    plain = _Shown()
    plain.feed(render_page(report_data(), ReportParams(users=USERS, items=12)))
    assert shown.tags <= plain.tags and shown.names <= plain.names
    text = "\n".join(shown.texts)
    for one in HOSTILE:
        if not INVISIBLE.search(one):
            assert one in text, one
    assert page.count("<style>") == page.count("</style>") == 1


def test_no_character_turns_or_hides_text(page):
    assert not INVISIBLE.search(page.replace("\n", ""))
    assert "\ufffdevil\ufffd" in page and "zero\ufffdwidth" in page, "where one was is marked"


def test_text_from_right_to_left_stays_in_its_own_box(page):
    """The number before a title is on its side whatever the title's direction: each text is isolated."""
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert re.search(r"figcaption[^{}]*\{[^}]*unicode-bidi:\s*isolate", style)
    assert re.search(r"h3[^{}]*\{[^}]*unicode-bidi:\s*isolate", style)


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_browser_runs_nothing_of_it(page, tmp_path):
    """The same with the browser's own parser: a script would have changed the title."""
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    done = subprocess.run(
        ("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom",
         (tmp_path / "page.html").as_uri()), capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.DOTALL)
    assert title and title[1] != "ran"
    assert "<script" not in done.stdout and "onerror=" not in re.sub(r"&lt;.*?&gt;|\"[^\"]*\"", "", done.stdout)
