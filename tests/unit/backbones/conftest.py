"""The tiny language models that MME-SID's tests have."""

from tests.unit.mme_sid.conftest import backbone, inside, ran, tiny, tokenizer

__all__ = ["backbone", "inside", "ran", "tiny", "tokenizer"]
