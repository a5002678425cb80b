"""Write the tables of the manual from the params models. Run: python -m tools.manual [--check].

Tables stand between markers such as `<!-- source-files:begin -->` in the pages of docs/; a test holds that they are up
to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from sidflow.catalog.params import SOURCE_NAMES, IngestParams
from sidflow.cli.params_file import scalar
from sidflow.cli.presets import compose
from sidflow.cli.sizes import (
    EVENT_ROWS,
    ITEM_ROWS,
    MOST,
    Counts,
    duration,
    expected_seconds,
)
from sidflow.core.files import atomic_path
from sidflow.core.params import Params

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/sources.md", "docs/sizes.md")
EXAMPLES = (Counts(500, 20_000), Counts(3_000, 100_000), Counts(12_000, 200_000), Counts(50_000, 1_000_000))
GROUPS = {
    "counting": ("train_counting", "train_content"),
    "sequential": ("train_sequential",),
    "multimodal": ("train_multimodal",),
    "MME-SID": ("finetune", "backbone", "quantize"),
}


def tables() -> dict[str, Callable[[], str]]:
    """Return what makes each table, by the name of its markers."""
    made: dict[str, Callable[[], str]] = {
        "ingest": lambda: keys_table(IngestParams, "ingest"),
        "pictures": lambda: keys_table(IngestParams().pictures.__class__, "ingest.pictures"),
        "sizes-items": items_table,
        "sizes-events": events_table,
        "times": times_table,
    }
    for name in SOURCE_NAMES:
        model = type(getattr(IngestParams(), name))
        made[f"source-{name}"] = lambda model=model, name=name: keys_table(model, f"ingest.{name}")
    return made


def keys_table(model: type[Params], prefix: str) -> str:
    """Return the keys of a model with default and meaning; models inside it have tables of their own."""
    rows = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if not isinstance(default, Params):
            value = list(default) if isinstance(default, tuple) else default
            rows.append([f"`{prefix}.{name}`", f"`{scalar(value)}`", field.description or ""])
    return _table(["key", "default", "meaning"], rows)


def items_table() -> str:
    """Return what is chosen by the number of items."""
    rows = [[_up_to(row.items), str(row.dimensions), row.loss] for row in ITEM_ROWS]
    return _table(["core items", "`dimensions`", "`loss`"], rows)


def events_table() -> str:
    """Return what is chosen by the number of events."""
    rows = [[_up_to(row.events), str(row.epochs), str(row.finetune_epochs), str(row.batch_size)] for row in EVENT_ROWS]
    return _table(["core events", "`loop.epochs`", "of `finetune`", "`batch_size`"], rows)


def times_table() -> str:
    """Return the expected times of all recommenders of `embedded` at some sizes."""
    rows = []
    for counts in EXAMPLES:
        seconds = expected_seconds(compose("embedded", counts=counts), counts)
        sums = {
            group: sum(value for name, value in seconds.items() if name.partition("@")[0] in sections)
            for group, sections in GROUPS.items()
        }
        cells = [duration(value) for value in (*sums.values(), sum(seconds.values()))]
        rows.append([f"{counts.items:,}", f"{counts.events:,}", *cells])
    return _table(["items", "events", *GROUPS, "whole run"], rows)


def filled(text: str) -> str:
    """Return a page's text with every table renewed.

    Raises:
        ValueError: the page has markers of no table.
    """
    made = tables()
    for name in re.findall(r"<!-- ([\w-]+):begin -->", text):
        if name not in made:
            raise ValueError(f"no table is called {name}")
        block = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        text = block.sub(lambda match, name=name: f"{match[1]}{made[name]()}\n{match[2]}", text)
    return text


def _up_to(limit: int) -> str:
    return "more" if limit == MOST else f"up to {limit:,}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Write the pages; with `--check` only say which are out of date, and exit with code 1."""
    stale = [page for page in PAGES if filled((ROOT / page).read_text()) != (ROOT / page).read_text()]
    if "--check" not in sys.argv[1:]:
        for page in stale:
            text = filled((ROOT / page).read_text())
            with atomic_path(ROOT / page) as temporary:
                temporary.write_text(text)
    print("\n".join(f"{page} is {'out of date' if '--check' in sys.argv else 'written'}." for page in stale))
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
