"""How users name features, `dictionary/index`, and finding what they named. Reads the catalog, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, NotFound, nearest
from featuredb.store.catalog import DictionaryRow, RunRow


@dataclass(frozen=True, slots=True, order=True)
class FeatureRef:
    """A feature by its dictionary's name and its index there; `str()` gives the form users write."""

    dictionary: str
    index: int

    @classmethod
    def parse(cls, text: str) -> FeatureRef:
        """The feature that `text` names; whether it exists is not looked at. Raises BadInput."""
        dictionary, slash, index = text.strip().rpartition("/")
        if not slash or not dictionary or not (index.isascii() and index.isdigit()) or len(index) > 18:
            raise BadInput(
                f"{text!r} does not name a feature", hint="write dictionary/index, such as gpt2-8-res-jb/1234"
            )
        return cls(dictionary, int(index))

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"


def get_dictionary(session: Session, name: str) -> DictionaryRow:
    """The dictionary of that name. Raises NotFound with the nearest names."""
    row = session.scalar(select(DictionaryRow).where(DictionaryRow.name == name))
    if row is None:
        known = session.scalars(select(DictionaryRow.name)).all()
        raise NotFound(f"no dictionary called {name!r}", hint=nearest(name, known, otherwise=_listed(known)))
    return row


def get_feature(session: Session, ref: FeatureRef | str) -> tuple[DictionaryRow, int]:
    """The dictionary and index that a reference names. Raises BadInput, or NotFound when there is no such feature."""
    if isinstance(ref, str):
        ref = FeatureRef.parse(ref)
    dictionary = get_dictionary(session, ref.dictionary)
    return dictionary, check_index(dictionary, ref.index)


def check_index(dictionary: DictionaryRow, index: int) -> int:
    """The index, when the dictionary has such a feature. Raises NotFound."""
    if not 0 <= index < dictionary.n_features:
        last = dictionary.n_features - 1
        raise NotFound(f"no feature {index} in {dictionary.name!r}", hint=f"it has features 0 to {last}")
    return index


def get_run(session: Session, key: str) -> RunRow:
    """The run of that key. Raises NotFound with the nearest keys."""
    row = session.scalar(select(RunRow).where(RunRow.key == key))
    if row is None:
        known = session.scalars(select(RunRow.key)).all()
        raise NotFound(f"no run called {key!r}", hint=nearest(key, known, otherwise=_listed(known)))
    return row


def _listed(known: Sequence[str]) -> str:
    names = sorted(known)
    if not names:
        return "the store is empty: `featuredb ingest` fills it"
    return "there are: " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
