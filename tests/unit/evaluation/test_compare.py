import pytest

from sidflow.core.errors import InputError
from sidflow.evaluation.compare import require_same_refit


def test_all_or_none_and_who_has_nothing_to_fit_is_neither():
    for one in (True, False):
        require_same_refit({"sasrec": one, "oracle": None, "markov": one}, "here", "do")
    with pytest.raises(InputError, match=r"^here: expected .*; found refitted: a, d; not: c\. Remedy: do"):
        require_same_refit({"a": True, "oracle": None, "c": False, "d": True}, "here", "do")
