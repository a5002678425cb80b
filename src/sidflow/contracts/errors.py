"""The error for invalid input: what was expected, what was found, and a remedy."""

from __future__ import annotations


class InputError(Exception):
    """Invalid input, as a message of one line. A stage that raises it exits with code 2 and writes nothing."""

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
        """Describe the invalid input.

        Args:
            artifact: the invalid file, parameter or object.
            expected: what it should hold.
            found: what it holds.
            remedy: the command or edit that corrects it.
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
        affected = "" if self.count is None else f" ({self.count} affected)"
        example = "" if self.example is None else f", for example {self.example!r}"
        text = (
            f"{self.artifact}: expected {self.expected}; found {self.found}{affected}{example}. Remedy: {self.remedy}"
        )
        return " ".join(text.split())
