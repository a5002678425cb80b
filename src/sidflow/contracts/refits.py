"""Whether test queries were answered from a second fit, on training and validation events: the fact on its way.

It goes with the metadata of FACTORS, TARGET_RANKS and PER_QUERY, so that who compares recommenders need not ask which
params they were made with: True: a second fit; False: one fit, on the training parts; None: nothing was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping

_KEY = "refit"


def fact(refit: bool | None) -> dict[str, object]:
    """Return it as metadata; one fit is what is not worth a word."""
    return {} if refit is False else {_KEY: refit}


def of(metadata: Mapping[str, object]) -> bool | None:
    """Return what `metadata` says."""
    found = metadata.get(_KEY, False)
    return None if found is None else bool(found)
