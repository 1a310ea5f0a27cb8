"""Concepts in the catalog: found, kept and removed, and said as answers. Rows only: no model and no files here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from featuredb.concepts.texts import Texts
from featuredb.errors import BadInput, NotFound, nearest
from featuredb.records import ConceptDirection, ConceptRow
from featuredb.rows import Rows
from featuredb.store import catalog
from featuredb.store.layout import check_name
from featuredb.store.store import Store


@dataclass(frozen=True)
class Made:
    """A concept that is ready to be kept."""

    name: str
    method: str
    by_hook: Mapping[str, NDArray[np.float32]]
    figures: Mapping[str, Mapping[str, Any]]
    """What is known of each hook's direction; its norm is added."""
    settings: Mapping[str, Any]
    texts: Texts | None = None
    model: str | None = None
    fingerprint: str | None = None
    notes: tuple[str, ...] = field(default=())
    """What a reader should know of how it was made."""


def find_concept(session: Session, name: str) -> catalog.ConceptRow | None:
    """The concept of that name, None where there is none."""
    return session.scalar(select(catalog.ConceptRow).where(catalog.ConceptRow.name == name))


def concept_names(session: Session) -> list[str]:
    return list(session.scalars(select(catalog.ConceptRow.name).order_by(catalog.ConceptRow.name)))


def get_concept(session: Session, name: str) -> catalog.ConceptRow:
    """The concept of that name. Raises NotFound with the nearest names."""
    row = find_concept(session, name)
    if row is None:
        known = concept_names(session)
        otherwise = f"there are: {', '.join(known[:8])}" if known else "`featuredb concept add` makes one"
        raise NotFound(f"no concept called {name!r}", hint=nearest(name, known, otherwise=otherwise))
    return row


def check_new(session: Session, name: str, *, replace: bool) -> None:
    """Raises BadInput when a concept cannot be called so, or one is and is not to be replaced."""
    check_concept_name(name)
    if not replace and find_concept(session, name) is not None:
        raise BadInput(f"there is a concept {name!r} already", hint="give --replace, or another name")


def check_concept_name(name: str) -> str:
    """The name itself, when a concept can have it. Raises BadInput."""
    try:
        # A dictionary's name is a file's too, where one word is taken; a concept's is not.
        return name if name.casefold() == "contexts" else check_name(name)
    except BadInput as error:
        raise BadInput(f"{name!r} cannot name a concept", hint=error.hint) from error


def keep(store: Store, made: Made, *, replace: bool = False) -> ConceptRow:
    """Puts a concept into the catalog, all of it or nothing, and says it with its texts.

    Raises BadInput as `check_new` does.
    """
    with store.session() as session:
        check_new(session, made.name, replace=replace)
        old = find_concept(session, made.name)
        if old is not None:
            session.delete(old)
            session.flush()  # names are unique
        row = catalog.ConceptRow(
            name=made.name,
            model_name=made.model,
            model_fingerprint=made.fingerprint,
            method=made.method,
            settings={**made.settings, "notes": list(made.notes)},
        )
        row.directions = [_direction(hook, vector, made.figures.get(hook, {})) for hook, vector in made.by_hook.items()]
        if made.texts is not None:
            row.texts = [
                catalog.ConceptTextRow(positive=positive, text=text)
                for positive, text in zip(made.texts.is_positive, made.texts.all, strict=True)
            ]
        session.add(row)
        session.flush()
        return record(row, with_texts=True)


def remove_concept(store: Store, name: str) -> None:
    """Takes a concept out of the catalog. Raises NotFound."""
    with store.session() as session:
        session.delete(get_concept(session, name))


def list_concepts(store: Store) -> Rows[ConceptRow]:
    """Every concept by name, without its texts."""
    with store.reading() as session:
        counts = _text_counts(session)
        found = session.scalars(
            select(catalog.ConceptRow)
            .options(selectinload(catalog.ConceptRow.directions))
            .order_by(catalog.ConceptRow.name)
        )
        return Rows((record(row, counts=counts.get(row.id, (0, 0))) for row in found), ConceptRow)


def record(row: catalog.ConceptRow, *, with_texts: bool = False, counts: tuple[int, int] | None = None) -> ConceptRow:
    """The answer that a row stands for. counts: of positive and negative texts, where those are not to be loaded."""
    positive: Sequence[str] = ()
    negative: Sequence[str] = ()
    if counts is None or with_texts:
        positive = [text.text for text in row.texts if text.positive]
        negative = [text.text for text in row.texts if not text.positive]
        counts = len(positive), len(negative)
    directions = tuple(_answer(row.name, each) for each in row.directions)
    settings = {name: value for name, value in row.settings.items() if name != "notes"}
    return ConceptRow(
        concept=row.name,
        model=row.model_name,
        method=row.method,
        hooks=tuple(each.hook for each in directions),
        n_positive=counts[0],
        n_negative=counts[1],
        auroc=max((each.auroc for each in directions if each.auroc is not None), default=None),
        settings=settings,
        directions=directions,
        created_at=row.created_at,
        positive=tuple(positive) if with_texts else (),
        negative=tuple(negative) if with_texts else (),
        notes=tuple(row.settings.get("notes", ())),
    )


def _direction(hook: str, vector: NDArray[np.float32], figures: Mapping[str, Any]) -> catalog.ConceptDirectionRow:
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    return catalog.ConceptDirectionRow(
        hook=hook, vector=vector.astype("<f4").tobytes(), figures={**figures, "norm": norm}
    )


def _answer(concept: str, row: catalog.ConceptDirectionRow) -> ConceptDirection:
    figures = row.figures
    return ConceptDirection(
        concept=concept,
        hook=row.hook,
        width=len(row.vector) // 4,
        norm=figures["norm"],
        auroc=figures.get("auroc"),
        auroc_low=figures.get("auroc_low"),
        auroc_high=figures.get("auroc_high"),
        n_held_out=figures.get("n_held_out"),
    )


def _text_counts(session: Session) -> dict[int, tuple[int, int]]:
    """How many positive and negative texts each concept has, by its number."""
    text = catalog.ConceptTextRow
    counts: dict[int, tuple[int, int]] = {}
    for owner, positive, n in session.execute(
        select(text.concept_id, text.positive, func.count()).group_by(text.concept_id, text.positive)
    ):
        before = counts.get(owner, (0, 0))
        counts[owner] = (before[0] + n, before[1]) if positive else (before[0], before[1] + n)
    return counts
