"""Test figures of models refitted on training + validation and of models that were not do not belong in one table."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.contracts.errors import InputError


def require_same_refit(refits: Mapping[str, bool | None], artifact: str, remedy: str) -> None:
    """Make sure that all models were refitted on training + validation before the test, or none of them.

    Args:
        refits: by name, whether it was refitted (see `contracts.refits`); None where there was nothing to fit, which
            goes with both.
        artifact: the table in which they would meet.
        remedy: what the user can do about it.

    Raises:
        InputError: some were refitted and some were not.
    """
    refitted, others = (
        ", ".join(name for name, refit in refits.items() if refit is wanted) for wanted in (True, False)
    )
    if refitted and others:
        raise InputError(
            artifact,
            expected="all refitted on train + validation before the test, or none",
            found=f"refitted: {refitted}; not: {others}",
            remedy=remedy,
        )
