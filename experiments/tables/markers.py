"""All tables by the names of their markers in Markdown files: printed, or written between the markers.

Run in the project's folder: python -m experiments.tables [FILE ...]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.tables import dmesr, measurements, results
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path

TABLES: dict[str, Callable[[], str]] = {
    "results": results.results_overview_table,
    "costs": results.costs_table,
    "results-full": results.results_full_table,
    "differences": results.differences_table,
    "variants": results.variants_table,
    "log-ranks": results.log_rank_differences_table,
    "pooled": results.pooled_table,
    "published": results.published_table,
    "published-minionerec": results.published_minionerec_table,
    "claims": results.claims_table,
    "benchmarks": measurements.benchmarks_table,
    "benchmarks-quality": measurements.quality_table,
    "content": measurements.content_table,
    "benchmark-details": measurements.benchmark_details,
    "quantizers": measurements.quantizers_table,
    "ablations": measurements.ablations_table,
    "settings": measurements.settings_table,
    "learned-parts": measurements.learned_parts_table,
    "faults": measurements.faults_table,
    "dmesr": dmesr.dmesr_table,
    "dmesr-differences": dmesr.dmesr_differences_table,
    "dmesr-pooled": dmesr.dmesr_pooled_table,
    "dmesr-tail": dmesr.dmesr_tail_table,
    "dmesr-tail-pooled": dmesr.dmesr_tail_pooled_table,
    "dmesr-slices": dmesr.dmesr_slices_table,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables into Markdown files, or print all of them where no file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="Markdown with markers")
    files: list[Path] = parser.parse_args(arguments).files
    try:
        lines = [write_tables(path) for path in files] if files else [all_tables()]
    except InputError as error:
        print(error.line(), file=sys.stderr)
        sys.exit(2)
    print("\n".join(lines))


def all_tables() -> str:
    """Return all tables, one after the other."""
    return "\n\n".join(text for text in (table() for table in TABLES.values()) if text)


def write_tables(path: Path) -> str:
    """Write each table between its markers in `path`, such as `<!-- results:begin -->`.

    Returns:
        A line that says whether the file changed.

    Raises:
        InputError: the file is absent or has none of the markers.
    """
    if not path.is_file():
        raise InputError(str(path), expected="a Markdown file", found="no such file", remedy="create it with markers")
    before = path.read_text()
    after = fill_markers(before)
    if not any(_block(name).search(before) for name in TABLES):
        raise InputError(
            str(path),
            expected="a line `<!-- results:begin -->` and a line `<!-- results:end -->`",
            found="no markers",
            remedy=f"add them where the table belongs; the names are {', '.join(TABLES)}",
        )
    with atomic_path(path) as temporary:
        temporary.write_text(after)
    return f"{path} is up to date." if after == before else f"{path} is written."


def fill_markers(text: str) -> str:
    """Return Markdown `text` with every table between its markers renewed."""
    for name, make_table in TABLES.items():
        if _block(name).search(text):
            table = make_table()
            body = f"\n{table}" if table else ""
            text = _block(name).sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)
    return text


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:begin -->)\n.*?(<!-- {name}:end -->)", re.DOTALL)


if __name__ == "__main__":
    main()
