"""Answers of language models, kept in the catalog by the hash of what was asked: paid for once, and a way to resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from featuredb.store.catalog import AnswerRow
from featuredb.store.store import Store

AT_ONCE = 500
"""Answers looked up in one statement."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and the tokens it cost where its server tells."""

    text: str
    n_in: int | None = None
    n_out: int | None = None


class AnswerCache:
    """The kept answers of one store. Each is committed as it comes, so that an interruption loses none."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @staticmethod
    def key(asked: Mapping[str, Any]) -> str:
        """The hash of all that may change an answer: model, messages, temperature, seed, ..."""
        return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=True).encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        with self._store.reading() as session:
            row = session.scalar(select(AnswerRow).where(AnswerRow.asked == key))
            return None if row is None else Answer(row.text, row.n_in, row.n_out)

    def get_many(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Those of the answers that are kept, by key; far quicker than one after another."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Answer] = {}
        with self._store.reading() as session:
            for start in range(0, len(wanted), AT_ONCE):
                part = wanted[start : start + AT_ONCE]
                for row in session.scalars(select(AnswerRow).where(AnswerRow.asked.in_(part))):
                    found[row.asked] = Answer(row.text, row.n_in, row.n_out)
        return found

    def put(self, key: str, model: str, answer: Answer) -> None:
        """Keeps an answer; the first one stays where two came for one question."""
        try:
            with self._store.session() as session:
                session.add(AnswerRow(asked=key, model=model, text=answer.text, n_in=answer.n_in, n_out=answer.n_out))
        except IntegrityError:
            return
