"""Test figures of a fit on training parts and of one on more do not belong into one table."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.contracts.errors import InputError


def refuse_mixture(refits: Mapping[str, bool | None], where: str, remedy: str) -> None:
    """Make sure that all were refitted on training and validation events before the test, or none of them.

    Args:
        refits: what the PER_QUERY of each recommender, or of each preset's, says of it (`contracts.refits`).
        where: the table that they meet in.
        remedy: what to do about it.

    Raises:
        InputError: some were and some were not; those with nothing to fit are neither.
    """
    refitted, others = _those(refits, True), _those(refits, False)
    if refitted and others:
        raise InputError(
            where,
            expected="all refitted on train + validation before the test, or none",
            found=f"refitted: {refitted}; not: {others}",
            remedy=remedy,
        )


def _those(refits: Mapping[str, bool | None], wanted: bool) -> str:
    return ", ".join(name for name, refit in refits.items() if refit is wanted)
