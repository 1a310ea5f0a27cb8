"""What asking costs: estimates before, a purse while it runs, and the error that says it is empty.

Rule: tokens and money only. What is asked, and of whom, lies elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from featuredb.errors import FeatureDBError

BYTES_PER_TOKEN = 3
"""Of UTF-8, when tokens are estimated. Prose and code have more, so the estimate errs on the high side."""

MESSAGE_TOKENS = 8
"""What a chat template puts around a message, at most."""

MILLION = 1_000_000


class BudgetReached(FeatureDBError):
    """The budget does not cover the next request. What was answered is kept; the rest was not asked."""

    code = "budget-reached"
    exit_code = 3


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost, in any currency; None where that is not known."""

    per_million_in: float | None = None
    per_million_out: float | None = None

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """The price of some tokens. None unless both prices are known."""
        if self.per_million_in is None or self.per_million_out is None:
            return None
        return (tokens_in * self.per_million_in + tokens_out * self.per_million_out) / MILLION


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would ask, answers that are kept already left out."""

    n_requests: int
    tokens_in: int
    tokens_out: int
    """At most: every answer as long as it may be. A repeated request comes on top."""
    cost: float | None
    """In the currency of the prices; None without prices."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What is set aside for one request."""

    estimated_in: int
    held_in: int
    held_out: int


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, from its length in UTF-8; tends to be too many."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


class Purse:
    """Counts what was spent and what is still out, and lets nothing be sent that could take both over the budget.

    Every request reserves the most it should cost before it is sent and is settled at what it did cost. A server that
    counts more tokens than were estimated can pass the budget by that much for the requests under way; from then on
    estimates are raised by as much as the worst of them fell short.
    """

    def __init__(self, prices: Prices, money: float | None = None, tokens: int | None = None) -> None:
        self.prices = prices
        self._money = money
        self._tokens = tokens
        self.tokens_in = 0
        """Spent so far."""
        self.tokens_out = 0
        self._held_in = 0
        self._held_out = 0
        self._short = 1.0

    def reserve(self, tokens_in: int, tokens_out: int) -> Reserved | None:
        """Sets the most a request should cost aside; None, and nothing is, where the budget does not cover it."""
        held_in = ceil(tokens_in * self._short)
        all_in = self.tokens_in + self._held_in + held_in
        all_out = self.tokens_out + self._held_out + tokens_out
        cost = self.prices.cost(all_in, all_out)
        if self._tokens is not None and all_in + all_out > self._tokens:
            return None
        if self._money is not None and cost is not None and cost > self._money:
            return None
        self._held_in += held_in
        self._held_out += tokens_out
        return Reserved(tokens_in, held_in, tokens_out)

    def settle(self, reserved: Reserved, tokens_in: int, tokens_out: int) -> None:
        """Replaces what was set aside for a request by what it cost."""
        self._held_in -= reserved.held_in
        self._held_out -= reserved.held_out
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        if reserved.estimated_in:
            self._short = max(self._short, tokens_in / reserved.estimated_in)

    def reached(self, left: str) -> BudgetReached:
        """The error to raise. left: what was not done, such as "12 features"."""
        limit = f"{self._tokens:,} tokens" if self._tokens is not None else ""
        if self._money is not None:
            limit = f"{self._money:g}" + (f" or {limit}" if limit else "")
        said = f"{self.tokens_in:,} tokens in and {self.tokens_out:,} out"
        if (cost := self.prices.cost(self.tokens_in, self.tokens_out)) is not None:
            said += f", {cost:.4g} in money"
        return BudgetReached(
            f"the budget of {limit} does not cover the next request: {said} are spent, {left} not done",
            hint="raise it and run the same again: answers paid for are kept and cost nothing",
        )
