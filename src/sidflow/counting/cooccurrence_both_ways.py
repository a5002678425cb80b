"""Co-occurrence in which the order of a pair does not matter: the row beside `cooccurrence` where order is in doubt.

Within a day, or without a clock, the order of a file may be that of its keys. What counts pairs both ways does not
depend on it.
"""

from __future__ import annotations

from sidflow.counting.cooccurrence import CooccurrenceParams, choose_cooccurrence, cooccurrence_factors
from sidflow.counting.fit import Method


class CooccurrenceBothWaysParams(CooccurrenceParams, defaults={"backwards": (1.0,)}):
    """Windowed co-occurrence without order: values to try of each knob but `backwards`."""


METHOD = Method(CooccurrenceBothWaysParams, choose_cooccurrence, cooccurrence_factors)
