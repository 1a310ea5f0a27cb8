"""What audits found of the features in an answer, as flags on its rows.

Every answer asks, so what was read is remembered until somebody changes the catalog. Rule: names on rows; what a
finding is, and which count, is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sqlalchemy import exists, select

from featuredb.audit.findings import flags_of
from featuredb.records import OfFeature, TextTokens
from featuredb.store.catalog import DictionaryRow, FindingRow
from featuredb.store.changes import Changes
from featuredb.store.store import Store

MOST_KEPT = 200_000
"""Features of a dictionary of which it is remembered what was found."""

Answer = TypeVar("Answer", bound=OfFeature)
Found = Mapping[tuple[str, int], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What has been read of one state of the catalog."""

    version: int | None
    by_dictionary: dict[str, dict[int, tuple[str, ...]]] = field(default_factory=dict)


class Flags:
    """Puts the names of findings on answers. Several threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store)
        self._known = _Known(None)

    def on(self, answers: Iterable[Answer]) -> list[Answer]:
        """The answers, each with the names of its feature's findings after the flags it has."""
        rows = list(answers)
        found = self._of(rows)
        return [_flagged(row, found) for row in rows]

    def on_tokens(self, texts: Sequence[TextTokens]) -> list[TextTokens]:
        """Texts token by token, each feature in them flagged."""
        found = self._of(
            row for text in texts for row in (*text.fired, *(one for ones in text.strongest for one in ones))
        )
        return [
            replace(
                text,
                fired=tuple(_flagged(one, found) for one in text.fired),
                strongest=tuple(tuple(_flagged(one, found) for one in ones) for ones in text.strongest),
            )
            for text in texts
        ]

    def close(self) -> None:
        self._changes.close()

    def _of(self, rows: Iterable[OfFeature]) -> Found:
        wanted: dict[str, set[int]] = {}
        for row in rows:
            wanted.setdefault(row.dictionary, set()).add(row.index)
        version, known = self._changes.version(), self._known
        if version is None or version != known.version:
            self._known = known = _Known(version)
        mine = {name: known.by_dictionary.get(name, {}) for name in wanted}
        new = {name: features - mine[name].keys() for name, features in wanted.items()}
        read = self._read({name: features for name, features in new.items() if features})
        for name, flags in read.items():
            mine[name] = {**mine[name], **flags}
            known.by_dictionary[name] = mine[name] if len(mine[name]) <= MOST_KEPT else {}
        return {(name, index): mine[name][index] for name, features in wanted.items() for index in features}

    def _read(self, wanted: Mapping[str, set[int]]) -> dict[str, dict[int, tuple[str, ...]]]:
        """The findings of some features by dictionary, none for those without any."""
        found: dict[str, dict[int, tuple[str, ...]]] = {name: dict.fromkeys(each, ()) for name, each in wanted.items()}
        if wanted:
            with self._store.reading() as session:
                # A store that no audit has seen is asked this and no more.
                audited = exists().where(FindingRow.dictionary_id == DictionaryRow.id)
                numbers = select(DictionaryRow.name, DictionaryRow.id).where(audited)
                for name, number in session.execute(numbers.where(DictionaryRow.name.in_(sorted(wanted)))):
                    found[name] |= flags_of(session, number, wanted[name])
        return found


def _flagged(row: Answer, found: Found) -> Answer:
    more = [name for name in found[row.dictionary, row.index] if name not in row.flags]
    return replace(row, flags=(*row.flags, *more)) if more else row
