"""Text files as UTF-8: gzip or plain, byte order marks, other encodings. Bytes that do not fit are refused."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from sidflow.core.errors import InputError
from sidflow.core.files import note_read

Encoding = Literal[
    "utf-8", "utf-16", "cp1252", "latin-1", "cp1250", "cp1251", "gb18030", "big5", "shift_jis", "euc_kr"
]  # fmt: skip
MAX_LINE_BYTES = 8_000_000  # bytes of a line; a longer one counts as bad and is not kept in memory
_GZIP_MARK = b"\x1f\x8b"
_MARKS = (  # the longest first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF8_MARK = codecs.BOM_UTF8
_ENCODING_REMEDY = (
    "set ingest.encoding to the file's encoding (cp1252 where Excel on Windows wrote it), or save it as UTF-8"
)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes, unzipped where its name ends in .gz.

    Raises:
        InputError: it cannot be read, its gzip is cut or damaged, or its name and its content disagree about gzip.
    """
    note_read(path)
    zipped = is_zipped(path)
    try:
        with path.open("rb") as plain:
            marked = plain.read(2) == _GZIP_MARK
            plain.seek(0)
            if marked and not zipped:
                raise InputError(
                    str(path),
                    expected="a file that is not compressed, as its name says",
                    found="gzip",
                    remedy=f"rename it to {path.name}.gz",
                )
            if zipped and not marked:
                raise InputError(
                    str(path),
                    expected="gzip, as its name says",
                    found="another file",
                    remedy="download it again, or rename it without .gz where it is plain text",
                )
            with gzip.open(plain, "rb") if zipped else plain as content:
                yield cast(BinaryIO, content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            str(path), expected="a whole gzip file", found=f"a cut or damaged one ({error})", remedy="download it again"
        ) from error
    except OSError as error:
        raise InputError(
            str(path), expected="a readable file", found=error.strerror or str(error), remedy="check the path"
        ) from error


def is_zipped(path: Path) -> bool:
    """Return whether the file's name says that it is gzipped."""
    return path.suffix.lower() == ".gz"


@contextmanager
def open_utf8(path: Path, encoding: str = "utf-8") -> Iterator[BinaryIO]:
    """Open a text file's content as UTF-8 bytes without a byte order mark.

    A mark says more than `encoding`. UTF-8 is passed on unchecked, see `check_utf8`; other encodings are converted
    in memory.

    Raises:
        InputError: as `open_bytes`, or the content is not in its encoding.
    """
    with open_bytes(path) as content:
        start = content.peek(4)[:4]  # type: ignore[attr-defined]
        mark, actual = next(((mark, name) for mark, name in _MARKS if start.startswith(mark)), (b"", encoding))
        if actual == "utf-8":
            content.read(len(mark))
            yield content
        else:
            yield io.BytesIO(_converted(content.read(), actual, path))


def _converted(content: bytes, encoding: str, path: Path) -> bytes:
    try:
        return content.decode(encoding).encode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _wrong_encoding(path, encoding, line, content, error) from error


def check_utf8(content: bytes, path: Path, first_line: int = 1) -> None:
    """Check that a part of a file is UTF-8.

    Args:
        content: whole lines.
        path: of the file, for the error message.
        first_line: the number of the part's first line.

    Raises:
        InputError: it is not.
    """
    if content.isascii():
        return
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise _wrong_encoding(path, "utf-8", line, content, error) from error


def _wrong_encoding(path: Path, encoding: str, line: int, content: bytes, error: UnicodeDecodeError) -> InputError:
    start = content.rfind(b"\n", 0, error.start) + 1
    example = content[max(start, error.start - 20) : error.end + 10].split(b"\n")[0]
    name = "UTF-8" if encoding == "utf-8" else encoding
    return InputError(
        str(path),
        expected=f"text in {name}",
        found=f"other bytes in line {line}",
        example=example,
        remedy=_ENCODING_REMEDY,
    )


def refuse_nul(content: bytes, path: Path) -> None:
    """Check that a part of a text file has no NUL byte, which UTF-16 without a mark is full of.

    Raises:
        InputError: it has one.
    """
    position = content.find(b"\0")
    if position >= 0:
        raise InputError(
            str(path),
            expected="text",
            found="a NUL byte: UTF-16 without a byte order mark, or no text file",
            example=content[max(0, position - 10) : position + 10],
            remedy="set ingest.encoding to utf-16, or convert the file to UTF-8",
        )


def refuse_carriage_returns(line: bytes, path: Path) -> None:
    """Check that a line has no carriage return but at its end: where lines end so, the file would be one line.

    Raises:
        InputError: it has one.
    """
    content = line.rstrip(b"\r\n")
    if b"\r" in content:
        raise InputError(
            str(path),
            expected="lines that end in a line feed",
            found="carriage returns alone",
            example=content[:60].decode("utf-8", "replace"),
            remedy="save the file with the line ends of Unix or Windows",
        )


def numbered_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str | None]]:
    """Yield the number and the text of each line that is not blank; None stands for a line that is too long.

    Lines end in a line feed. A byte order mark at a line's start, as joined files have it, is left out.

    Raises:
        InputError: as `open_utf8`, or a line is not UTF-8.
    """
    number = 0
    with open_utf8(path, encoding) as content:
        while line := content.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := content.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield number, None
                continue
            line = line.removeprefix(_UTF8_MARK)
            check_utf8(line, path, number)
            if line.strip():
                yield number, line.decode("utf-8")


def without_inner_marks(block: bytes) -> bytes:
    """Return lines without byte order marks at their starts."""
    if _UTF8_MARK not in block:
        return block
    return block.removeprefix(_UTF8_MARK).replace(b"\n" + _UTF8_MARK, b"\n")
