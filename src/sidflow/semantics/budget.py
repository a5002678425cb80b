"""What a model may cost: the budgets of the runtime settings, over all runs with a response store."""

from __future__ import annotations

from collections.abc import Iterable

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.semantics.store import Response, StoreSize


def cost_of(runtime: Runtime, input_tokens: int, output_tokens: int) -> float:
    """Return what tokens cost at the prices of the runtime settings, in their currency."""
    return (input_tokens * runtime.input_price + output_tokens * runtime.output_price) / 1e6


class Budget:
    """Counts the tokens and the cost of a model's answers, and says when a budget is spent."""

    def __init__(self, runtime: Runtime, model: str, earlier: StoreSize) -> None:
        """Begin with what the store holds.

        Args:
            runtime: budgets and prices.
            model: name and revision.
            earlier: what the store holds of it.
        """
        self._runtime, self._model = runtime, model
        self._input_tokens, self._output_tokens = earlier.input_tokens, earlier.output_tokens

    def count(self, responses: Iterable[Response]) -> None:
        """Add responses that have come."""
        for response in responses:
            self._input_tokens += response.input_tokens
            self._output_tokens += response.output_tokens

    def error(self) -> InputError | None:
        """Return an error where a budget is spent."""
        limits, tokens = self._runtime, self._input_tokens + self._output_tokens
        cost = cost_of(limits, self._input_tokens, self._output_tokens)
        if limits.token_budget is not None and tokens >= limits.token_budget:
            setting, spent = "token_budget", f"{tokens} tokens of {limits.token_budget}"
        elif limits.cost_budget is not None and cost >= limits.cost_budget:
            setting, spent = "cost_budget", f"{cost:.2f} of {limits.cost_budget:.2f}"
        else:
            return None
        return InputError(
            f"runtime.yaml:{setting}",
            expected="views of all items within the budget",
            found=f"{spent} are spent on {self._model}",
            remedy="raise the budget and run the same command again: what was answered is kept and costs nothing",
        )
