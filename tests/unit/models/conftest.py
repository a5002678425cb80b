"""The tokenizer that MME-SID's tests have."""

from tests.unit.mme_sid.conftest import tokenizer

__all__ = ["tokenizer"]
