"""Which dictionary and features an audit is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from featuredb.errors import BadInput, NotFound
from featuredb.store.catalog import DictionaryRow
from featuredb.store.refs import FeatureRef, check_index, get_dictionary
from featuredb.store.store import Store


def one_dictionary(
    store: Store, dictionary: str | None, features: Sequence[str] | None = None
) -> tuple[str, tuple[int, ...] | None]:
    """The dictionary and the features' indices: by name, by its features' names, or the only one that the store has.

    features: "dictionary/index", or the index alone. Raises BadInput where several dictionaries are meant or none is
    named among several, NotFound for what is not there.
    """
    named = {FeatureRef.parse(feature).dictionary for feature in features or () if "/" in feature}
    named |= {dictionary} if dictionary is not None else set()
    if len(named) > 1:
        raise BadInput(
            f"{' and '.join(sorted(named))} are {len(named)} dictionaries", hint="audit one dictionary at a time"
        )
    with store.reading() as session:
        name = next(iter(named), None) or _only(list(session.scalars(select(DictionaryRow.name))))
        row = get_dictionary(session, name)
        if features is None:
            return name, None
        refs = [FeatureRef.parse(feature if "/" in feature else f"{name}/{feature}") for feature in features]
        return name, tuple(sorted({check_index(row, ref.index) for ref in refs}))


def _only(names: list[str]) -> str:
    if not names:
        raise NotFound("the store has no dictionary", hint="`featuredb ingest model` adds one")
    if len(names) > 1:
        there = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
        raise BadInput(f"the store has {len(names)} dictionaries", hint=f"name one with --dictionary: {there}")
    return names[0]
