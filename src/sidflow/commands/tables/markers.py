"""All tables by the names of their markers, printed or written between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sidflow.commands.tables import measurements, results
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path

MARKERS: dict[str, Callable[[], str]] = {
    "results": results.overview,
    "results-full": results.full,
    "differences": results.differences,
    "log-ranks": results.log_ranks,
    "pooled": results.pooled,
    "published": results.published,
    "claims": results.claimed,
    "benchmarks": measurements.benchmarks,
    "findings": measurements.findings,
    "quantizers": measurements.quantizers,
    "ablations": measurements.ablations,
    "settings": measurements.settings,
}


def everything() -> str:
    """Return all tables, one after the other."""
    return "\n\n".join(text for text in (make() for make in MARKERS.values()) if text)


def write(path: Path) -> str:
    """Write each table between its markers in `path`, such as `<!-- results:begin -->`, and return what was done.

    Raises:
        InputError: the file is absent or has none of the markers.
    """
    if not path.is_file():
        raise InputError(str(path), expected="a Markdown file", found="no such file", remedy="create it with markers")
    before = path.read_text()
    after = filled(before)
    if not any(_block(name).search(before) for name in MARKERS):
        raise InputError(
            str(path),
            expected="a line `<!-- results:begin -->` and a line `<!-- results:end -->`",
            found="no markers",
            remedy=f"add them where the table shall stand; the names are {', '.join(MARKERS)}",
        )
    with atomic_path(path) as temporary:
        temporary.write_text(after)
    return f"{path} is up to date." if after == before else f"{path} is written."


def filled(text: str) -> str:
    """Return Markdown `text` with every table between its markers renewed."""
    for name, make in MARKERS.items():
        if _block(name).search(text):
            table = f"\n{made}" if (made := make()) else ""
            text = _block(name).sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    return text


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:begin -->)\n.*?(<!-- {name}:end -->)", re.DOTALL)
