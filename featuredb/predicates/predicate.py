"""What a predicate is: a name, its English, and the tokens it holds of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featuredb.predicates.text import Mask
from featuredb.predicates.view import View


@dataclass(frozen=True, slots=True)
class Predicate:
    """Something that is true of some tokens."""

    name: str
    """`group.name`, by which expressions speak of it."""
    noun: str
    """The tokens themselves, in the plural where there can be one: "capital letters", "function names after `def`"."""
    when: str
    """What narrows other tokens down to these: "in capitals", "after `def`"."""
    tokens: Callable[[View], Mask]
    """(N,) whether it holds of each token of a view."""
    wide: bool = False
    """Whether it tells where a token stands rather than what it is; then another's noun leads in a phrase of two."""
