"""Every error featuredb raises on purpose, and the exit status the command line gives it.

FeatureDBError        1   base; never raised itself
├── BadInput          3   a value, file or tensor that cannot be used as it is
├── BudgetReached     3   what a language model may cost is spent; defined in featuredb.llm.budget
├── NotFound          4   nothing of that name
├── PluginFailed      5   a plugin broke, or one it needs is not installed
├── StoreUnusable     6   no store there, an older or newer one, a full disk
│   └── StoreBusy     6   another process is writing the same thing
├── FaultsFound       7   a check ran to its end and found faults
└── Interrupted     130   Ctrl-C; the same command goes on from where it stopped
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FeatureDBError(Exception):
    """What is wrong, with the value; `hint` is the next thing to do."""

    code = "unexpected"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadInput(FeatureDBError):
    code = "bad-input"
    exit_code = 3


class NotFound(FeatureDBError):
    code = "not-found"
    exit_code = 4


class PluginFailed(FeatureDBError):
    code = "plugin-failed"
    exit_code = 5


class StoreUnusable(FeatureDBError):
    code = "store-unusable"
    exit_code = 6


class StoreBusy(StoreUnusable):
    code = "store-busy"


class FaultsFound(FeatureDBError):
    code = "faults-found"
    exit_code = 7


class Interrupted(FeatureDBError):
    code = "interrupted"
    exit_code = 130


def nearest(name: str, known: Iterable[str], *, otherwise: str | None = None) -> str | None:
    """A hint naming the known names closest to `name`; `otherwise` when none is close."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(other) for other in close) + "?"
    return otherwise
