"""The one error a user meets: what was expected, what was found, and what to do about it."""

from __future__ import annotations


class InputError(Exception):
    """Bad input, told in one line; a stage that raises it exits with code 2 and writes nothing."""

    def __init__(
        self,
        artifact: str,
        *,
        expected: str,
        found: str,
        remedy: str,
        count: int | None = None,
        example: object | None = None,
    ) -> None:
        """Describe the bad input.

        Args:
            artifact: file, parameter or object that is wrong.
            expected: what it should hold.
            found: what it holds.
            remedy: the command or edit that repairs it.
            count: how many rows, items or files are affected.
            example: one of them.
        """
        self.artifact = artifact
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.count = count
        self.example = example
        super().__init__(self.line())

    def line(self) -> str:
        """Return the whole message as a single line."""
        where = "" if self.count is None else f" ({self.count} affected)"
        such = "" if self.example is None else f", for example {self.example!r}"
        text = f"{self.artifact}: expected {self.expected}; found {self.found}{where}{such}. Remedy: {self.remedy}"
        return " ".join(text.split())
