"""The bank: every predicate there is, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from featuredb.predicates import of_code, of_lines, of_places, of_prose, of_strings, of_tokens, of_words
from featuredb.predicates.predicate import Predicate

__all__ = ["BANK", "Predicate"]

BANK: Mapping[str, Predicate] = MappingProxyType(
    {
        predicate.name: predicate
        for group in (of_tokens, of_words, of_lines, of_places, of_prose, of_code, of_strings)
        for predicate in group.PREDICATES
    }
)
"""By name; a name stays what it is, for labels in stores speak of it."""
