"""The small shop of the sequential recommenders."""

from tests.unit.sequential.conftest import shop  # noqa: F401
