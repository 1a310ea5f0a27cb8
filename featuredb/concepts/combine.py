"""A concept made of others by an expression. Directions alone: no model is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featuredb.concepts.catalog import Made, check_new, concept_names, get_concept
from featuredb.concepts.expression import Direction, Part, names, parse, work_out
from featuredb.concepts.texts import Texts
from featuredb.concepts.vectors import at_hook, vectors_of
from featuredb.errors import BadInput, NotFound
from featuredb.store.catalog import ConceptRow
from featuredb.store.store import Store


def combined(store: Store, name: str, expression: str, *, overwrite: bool = False) -> Made:
    """The concept that an expression makes of others; see `featuredb.concepts.expression`. Nothing is kept yet.

    It stands at the hooks that all of them have. Made of a single concept, it keeps that one's texts, its sides swapped
    where the direction is turned round, and its figures; else it has none.
    overwrite: whether `name` may be a concept already.
    Raises NotFound for a name that is no concept, BadInput for what has no value, differs in its model, or is zero.
    """
    part = parse(expression)
    wanted = names(part)
    with store.reading() as session:
        check_new(session, name, replace=overwrite)
        rows = [_named(session, each) for each in wanted]
        if not rows:
            raise BadInput(f"{expression!r} names no concept", hint="write it like a - 0.5*b")
        vectors = {row.name: vectors_of(row) for row in rows}
        model, fingerprint = _model(rows)
        made = Made(
            name=name,
            method="combination",
            by_hook={},
            figures={},
            settings={"expression": expression, "of": wanted} | _shared(rows),
            model=model,
            fingerprint=fingerprint,
        )
        by_hook, dropped = _at_common_hooks(part, vectors)
        notes = [f"only some of the concepts have {', '.join(dropped)}: left out"] if dropped else []
        made = replace(made, by_hook=by_hook, notes=tuple(notes))
        return _with_texts(made, rows[0]) if len(rows) == 1 else made


def _named(session: Session, name: str) -> ConceptRow:
    try:
        return get_concept(session, name)
    except NotFound as error:
        known = set(concept_names(session))
        # a-b is one name, as far as names go.
        cuts = [(name[:at], name[at + 1 :]) for at, sign in enumerate(name) if sign == "-"]
        meant = next((cut for cut in cuts if known.issuperset(cut)), None)
        if meant is None:
            raise
        raise NotFound(error.message, hint=f"to subtract, write {meant[0]} - {meant[1]}, with spaces") from error


def _model(rows: Sequence[ConceptRow]) -> tuple[str | None, str | None]:
    """The model that all of them are of, as far as they say. Raises BadInput where they are of several."""
    known = {(row.model_name, row.model_fingerprint): row.name for row in rows if row.model_fingerprint}
    if len(known) > 1:
        told = " and ".join(f"{name!r} of {of[0]} ({str(of[1])[:8]})" for of, name in list(known.items())[:2])
        raise BadInput(f"the concepts are of different models: {told}", hint="directions of one model can be added")
    return next(iter(known), (None, None))


def _shared(rows: Sequence[ConceptRow]) -> dict[str, Any]:
    """Settings on which all agree and that a reader of the directions may want."""
    first = rows[0].settings
    return {
        key: first[key]
        for key in ("token", "chat", "model_type")
        if key in first and all(row.settings.get(key) == first[key] for row in rows)
    }


def _at_common_hooks(
    part: Part, vectors: Mapping[str, dict[str, NDArray[np.float32]]]
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """The expression's directions at the hooks that all concepts have, by the first one's names; and the others."""
    first = next(iter(vectors.values()))
    common, dropped = [], []
    for hook in dict.fromkeys(hook for by_hook in vectors.values() for hook in by_hook):
        everywhere = all(at_hook(by_hook, hook) is not None for by_hook in vectors.values())
        if everywhere and hook in first:
            common.append(hook)
        elif not everywhere:
            dropped.append(hook)
    if not common:
        told = "; ".join(f"{name!r} at {', '.join(list(by_hook)[:3])}" for name, by_hook in vectors.items())
        raise BadInput(f"the concepts have no hook in common: {told}", hint="make them at the same hooks")
    operands: dict[str, dict[str, Direction]] = {}
    for name, by_hook in vectors.items():
        found = {hook: at_hook(by_hook, hook) for hook in common}
        operands[name] = {hook: vector.astype(np.float64) for hook, vector in found.items() if vector is not None}
    for hook in common:
        widths = {len(by_hook[hook]): name for name, by_hook in operands.items()}
        if len(widths) > 1:
            told = " and ".join(f"{name!r} has {width:,} numbers" for width, name in list(widths.items())[:2])
            raise BadInput(f"{hook}: {told}", hint="directions of one model can be added")
    with np.errstate(all="ignore"):  # what overflows is refused below
        value = work_out(part, operands)
    if isinstance(value, float):
        raise BadInput(f"the expression is the number {value:g}, not a direction", hint="write it like a - 0.5*b")
    return {hook: _kept(direction, hook) for hook, direction in value.items()}, dropped


def _kept(direction: Direction, hook: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        kept: NDArray[np.float32] = direction.astype(np.float32)
    if not np.isfinite(kept).all():
        raise BadInput(f"the expression is too large at {hook}", hint="directions are kept in float32")
    if not kept.any():
        raise BadInput(f"the expression is zero at {hook}", hint="a direction needs a length")
    return kept


def _with_texts(made: Made, row: ConceptRow) -> Made:
    """The concept with the texts of the only one it is made of, where all of its directions go the same way."""
    old = vectors_of(row)
    turned = {float(made.by_hook[hook].astype(np.float64) @ old[hook]) < 0 for hook in made.by_hook}
    positive = tuple(text.text for text in row.texts if text.positive)
    negative = tuple(text.text for text in row.texts if not text.positive)
    if len(turned) > 1 or not (positive and negative):
        return made
    texts = Texts(negative, positive) if turned == {True} else Texts(positive, negative)
    figures = {each.hook: dict(each.figures) for each in row.directions}
    if turned == {True}:
        for each in figures.values():
            each["n_positive"], each["n_negative"] = each.get("n_negative"), each.get("n_positive")
    return replace(made, texts=texts, figures=figures)
