"""Test figures of a fit on training parts and of one on more do not belong into one table."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.contracts.errors import InputError


def refuse_mixture(refits: Mapping[str, bool | None], where: str) -> None:
    """Make sure that recommenders were all refitted before the test, or none of them.

    Args:
        refits: what each one's PER_QUERY says of it (`contracts.refits`).
        where: what errors call the place that they meet in.

    Raises:
        InputError: some were and some were not; those with nothing to fit are neither.
    """
    refitted, others = _those(refits, True), _those(refits, False)
    if refitted and others:
        raise InputError(
            where,
            expected="test figures of one kind: all recommenders refitted on train + validation, or none",
            found=f"refitted: {refitted}; not: {others}",
            remedy="set `refit` alike for all of them in params.yaml, or name fewer under `recommenders`; `dvc repro`",
        )


def _those(refits: Mapping[str, bool | None], wanted: bool) -> str:
    return ", ".join(name for name, refit in refits.items() if refit is wanted)
