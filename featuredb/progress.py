"""How long work says how far it is: one record, given to whoever asked. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of one stage; a stage's reports come in order of `done`."""

    stage: str
    """What is being done, in a word or two: "capture", "train", "index"."""
    done: int
    """Units done so far, those of an earlier interrupted call included."""
    total: int | None
    """Units in all; None where that is not known before the end."""
    unit: str
    """What is counted, in the plural: "tokens", "features"."""
    note: str = ""
    """A figure worth seeing beside the bar, such as "loss 0.031"."""


ProgressReport = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The report of a caller who does not want to know."""
