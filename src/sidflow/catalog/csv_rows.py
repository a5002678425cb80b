"""Rows of CSV and TSV files, checked one by one before a fast reader sees them.

The fast reader takes any quote for the start of a quoted field, so that two inch signs swallow the rows between them,
and fills rows that are too short. Here a quote opens a field only at the field's start (RFC 4180), every row must have
the header's fields, and a field that spans lines must be quoted by the rules. Other quotes are part of the text: their
rows are written anew for the fast reader. Where both readings are possible, the file is refused.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sidflow.catalog.text_files import check_utf8, is_zipped, open_utf8, refuse_nul, without_inner_marks
from sidflow.core.errors import InputError

BLOCK_BYTES = 16_000_000  # bytes of rows that are checked at once
MAX_ROW_BYTES = 2_000_000  # a quoted field that is not closed within so many bytes is not closed


class CheckedCsv(NamedTuple):
    """A CSV file whose rows have been checked."""

    source: Path | io.BytesIO  # what the fast reader reads: the file itself, or its rows written anew
    stray_quotes: int  # rows with quotes that are part of the text


def check_csv(path: Path, separator: str, encoding: str = "utf-8") -> CheckedCsv:
    """Return a CSV file's rows in the form that the fast reader reads right.

    A file with one column is not checked: its separator is another one.

    Raises:
        InputError: a row has more or fewer fields than the header, or a quoted field is not closed.
    """
    checker = _Checker(path, separator.encode())
    in_place = encoding == "utf-8" and not is_zipped(path)
    if in_place:
        with open_utf8(path) as content:
            in_place = not isinstance(content, io.BytesIO)  # converted, since its mark says another encoding
            for _ in checker.rows(content):
                pass
    if in_place and not checker.rewritten:
        return CheckedCsv(path, 0)
    with open_utf8(path, encoding) as content:
        rows = io.BytesIO(b"".join(checker.rows(content)))
    return CheckedCsv(rows, checker.stray_quotes)


def split_header(line: bytes, separator: bytes) -> list[bytes]:
    """Return the fields of a header, unquoted."""
    return _Grammar(separator, 1).split(line) or []


class _Grammar:
    """Patterns of rows with a given separator and number of fields."""

    def __init__(self, separator: bytes, fields: int) -> None:
        cut = re.escape(separator)
        self.separator, self.fields = separator, fields
        plain = rb'[^"\n' + cut + rb"]*+"
        quoted = rb'"[^"\n]*+(?:""[^"\n]*+)*+"'
        field = rb"(?:" + quoted + rb"|" + plain + rb")"
        self.regular_rows = re.compile(rb"(?:" + _row(field, cut, fields) + rb")*+")
        spanning = rb'(?:"[^"]*+(?:""[^"]*+)*+"|' + plain + rb")"
        self.spanning_row = re.compile(_row(spanning, cut, fields))
        end = rb"(?=" + cut + rb"|$)"
        self._quoted = re.compile(rb' *"([^"]*+(?:""[^"]*+)*+)" *' + end)
        self._opening = re.compile(rb' *"')
        self._until_end = re.compile(rb'"(.*?)"' + end, re.DOTALL)  # quotes inside were not doubled
        self._plain = re.compile(rb"[^" + cut + rb"]*+")

    def split(self, line: bytes, *, lenient: bool = False) -> list[bytes] | None:
        """Return the line's fields; None where a quote at a field's start has no other quote after it.

        Args:
            line: without its end.
            lenient: a quoted field goes on to the first quote before a separator, though quotes inside are not
                doubled; otherwise such a quote is part of the text.
        """
        fields, position = [], 0
        while True:
            match = None
            opening = self._opening.match(line, position)
            if opening:
                match = self._quoted.match(line, position)
                if match is None and _is_open(line, opening.end()):
                    return None
                if match is None and lenient:
                    match = self._until_end.match(line, opening.end() - 1)
            if match:
                fields.append(match[1].replace(b'""', b'"'))
            else:
                match = self._plain.match(line, position)
                assert match
                fields.append(match[0])
            position = match.end() + len(self.separator)
            if position > len(line):
                return fields


def _row(field: bytes, cut: bytes, fields: int) -> bytes:
    return field + rb"(?:" + cut + field + rb"){" + str(fields - 1).encode() + rb"}\r?\n"


def _is_open(line: bytes, position: int) -> bool:
    """Return whether the quoted field that begins at `position` isn't closed: all quotes in it are doubled."""
    return b'"' not in line[position:].replace(b'""', b"")


class _Checker:
    """Walks through the rows of one file."""

    def __init__(self, path: Path, separator: bytes) -> None:
        self.path, self.separator = path, separator
        self.rewritten, self.stray_quotes = False, 0
        self._line, self._hidden_lines = 1, 0  # number of the next line; lines so far that began no row

    def rows(self, content: BinaryIO) -> Iterator[bytes]:
        """Yield the file's rows in blocks, the header first."""
        self.rewritten, self.stray_quotes, self._line, self._hidden_lines = False, 0, 1, 0
        header = content.readline()
        check_utf8(header, self.path)
        refuse_nul(header, self.path)
        header_line = header.rstrip(b"\r\n")
        if b"\r" in header_line:
            raise self._error("lines that end in a line feed", "carriage returns alone", header_line)
        columns = split_header(header_line, self.separator)
        repeated = [name.decode() for name, count in Counter(columns).items() if count > 1 and name]
        if repeated:
            raise self._error("columns with different names", f"`{repeated[0]}` several times", header_line)
        yield header
        self._line += 1
        if len(columns) < 2:
            yield content.read()
            return
        grammar, carried = _Grammar(self.separator, len(columns)), b""
        while True:
            part = content.read(BLOCK_BYTES)
            block = carried + part + content.readline()
            last = len(part) < BLOCK_BYTES or not block.endswith(b"\n")
            if block and not block.endswith(b"\n"):
                block += b"\n"
            check_utf8(block, self.path, self._line)
            refuse_nul(block, self.path)
            clean = without_inner_marks(block)
            self._refuse_header(clean, header_line)
            self.rewritten |= clean is not block
            used = yield from self._checked(clean, grammar, last=last)
            carried = clean[used:]
            if last:
                return

    def _refuse_header(self, block: bytes, header_line: bytes) -> None:
        """Check that the header does not stand among the rows, as in files that were joined.

        Raises:
            InputError: it does.
        """
        position = 0 if block.startswith(header_line) else block.find(b"\n" + header_line) + 1
        end = position + len(header_line)
        if block.startswith(header_line, position) and block[end : end + 1] in (b"\n", b"\r"):
            line = self._line + block.count(b"\n", 0, position)
            raise self._error("the header once, in the first line", f"it again in line {line}", header_line)

    def _checked(self, block: bytes, grammar: _Grammar, *, last: bool) -> Iterator[bytes]:
        """Yield the block's rows; return how many bytes were used: a row that may go on in the next block waits."""
        position = start = 0  # rows from `start` to `position` are right as they are
        while True:
            match = grammar.regular_rows.match(block, position)
            assert match
            self._line += block.count(b"\n", position, match.end())
            position = match.end()
            if position == len(block):
                break
            end = block.index(b"\n", position) + 1
            line = block[position : end - 1].removesuffix(b"\r")
            if not line.strip(b" "):
                replacement: bytes | None = b""
                self._hidden_lines += 1
            else:
                spanning = grammar.spanning_row.match(block, position, position + MAX_ROW_BYTES)
                if spanning is None and not last and len(block) - position < MAX_ROW_BYTES:
                    break
                if spanning and not self._looks_like_rows(spanning[0], grammar):
                    replacement, end = None, spanning.end()
                    self._hidden_lines += spanning[0].count(b"\n") - 1
                else:
                    replacement = self._replacement(line, grammar, spanning)
            self._line += block.count(b"\n", position, end)
            if replacement is not None:
                self.rewritten = True
                yield block[start:position] + replacement
                start = end
            position = end
        yield block[start:position]
        return position

    def _looks_like_rows(self, rows: bytes, grammar: _Grammar) -> bool:
        """Return whether each line of a quoted field that spans lines would be a row by itself.

        Raises:
            InputError: it would, in a CSV file; in a TSV file, whose fields hold no tabs, the quotes are text.
        """
        lines = rows.splitlines()
        if any(line.count(self.separator) != grammar.fields - 1 for line in lines):
            return False
        if self.separator != b"\t":
            raise self._error(
                "each row on its own line, or quotes that are doubled inside of fields",
                f"a quote that opens a field of {self._here()} and is closed {len(lines) - 1} lines below, with lines "
                "between that look like rows",
                lines[0],
            )
        return True

    def _replacement(self, line: bytes, grammar: _Grammar, spanning: re.Match[bytes] | None) -> bytes:
        """Return a row with quotes in its text as the fast reader needs it.

        Raises:
            InputError: it hasn't the header's fields, or a quoted field is not closed.
        """
        tabs = self.separator == b"\t"
        strict = grammar.split(line)
        if strict is None and not tabs:
            raise self._error("quoted fields that are closed", f"one that is not, in {self._here()}", line)
        naive = line.split(self.separator)
        readings = (naive,) if spanning else (grammar.split(line, lenient=True), strict, naive if tabs else None)
        fields = next((fields for fields in readings if fields and len(fields) == grammar.fields), None)
        if fields is None:
            count = len(strict or naive)
            expected = f"{grammar.fields} fields in every row, as in the header"
            raise self._error(expected, f"{count} field{'s' * (count != 1)} in {self._here()}", line)
        self.stray_quotes += 1
        quoted = (b'"' + field.replace(b'"', b'""') + b'"' for field in fields)
        return self.separator.join(quoted) + b"\n"

    def _here(self) -> str:
        return f"row {self._line - 1 - self._hidden_lines} (line {self._line})"

    def _error(self, expected: str, found: str, line: bytes) -> InputError:
        return InputError(
            str(self.path),
            expected=expected,
            found=found,
            example=line[:60].decode("utf-8", "replace"),
            remedy="repair the row, or convert the file to Parquet",
        )
