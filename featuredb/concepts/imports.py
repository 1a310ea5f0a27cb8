"""A concept taken from a file. What the file's numbers mean is `featuredb.concepts.files`'s business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.concepts.catalog import Made, check_concept_name, check_new
from featuredb.concepts.files import FileVectors, read_file
from featuredb.concepts.vectors import at_hook
from featuredb.errors import BadInput, NotFound, nearest
from featuredb.hooknames import SITES, canonical_hook, is_canonical, layer_of
from featuredb.store.catalog import ModelRow
from featuredb.store.store import Store


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """One file, and what it does not say itself."""

    path: Path
    name: str | None = None
    """What the concept is called; None takes the file's name."""
    hook: str | None = None
    """Where a vector belongs whose file does not say; of a file that does, the one hook that is taken."""
    layer: int | None = None
    """The same for what a block gives: 8 is layers.8.resid_post."""
    format: str | None = None
    """One of `featuredb.concepts.choices.READ_FORMATS`; None goes by the file's ending."""
    rows_are: str | None = None
    """One of `featuredb.concepts.choices.ROWS_ARE`; a file of rows is refused without it."""
    row: int | None = None
    """Of a file whose rows are concepts, the one that is taken."""
    model: str | None = None
    """The store's model that the vectors were made with; their width and layers are then held against it."""
    replace: bool = False

    def __post_init__(self) -> None:
        if self.hook is not None and self.layer is not None:
            raise BadInput(f"both hook {self.hook!r} and layer {self.layer} are given", hint="give one of them")
        if self.layer is not None and self.layer < 0:
            raise BadInput(f"layer is {self.layer}", hint="layers are counted from 0")


def imported(store: Store, request: ImportRequest) -> Made:
    """The concept that a file holds; nothing is kept yet. Raises as `read_file` does."""
    name = check_concept_name(request.path.stem if request.name is None else request.name)
    with store.reading() as session:
        check_new(session, name, replace=request.replace)
        model = None if request.model is None else _model(session, request.model)
    hook = None if request.hook is None else canonical_hook(request.hook)
    if hook is not None and not is_canonical(hook):
        raise BadInput(f"no hook is called {hook!r}", hint=f"layers.8.{', '.join(SITES)}, or embed")
    if request.layer is not None:
        hook = f"layers.{request.layer}.resid_post"
    read = read_file(request.path, hook=hook, format=request.format, rows_are=request.rows_are, row=request.row)
    by_hook, notes = _chosen(request, read, hook)
    if model is not None:
        _check_against(model, by_hook)
    return Made(
        name=name,
        method="import",
        by_hook=by_hook,
        figures={},
        settings={"file": request.path.name, "format": read.format, **read.facts},
        model=None if model is None else model.name,
        fingerprint=None if model is None else model.fingerprint,
        notes=(*read.notes, *notes),
    )


def _chosen(
    request: ImportRequest, read: FileVectors, hook: str | None
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """The directions that are wanted, and what there is to say about that."""
    if "" in read.by_hook:
        raise BadInput(f"{request.path} does not say where its vector belongs", hint="give --layer N or --hook HOOK")
    if request.layer is not None and list(read.by_hook) == [hook]:
        return read.by_hook, [f"layer {request.layer} is read as what block {request.layer} gives"]
    if hook is None or list(read.by_hook) == [hook]:
        return read.by_hook, []
    vector = at_hook(read.by_hook, hook)
    if vector is None:
        raise NotFound(f"{request.path} has no vector at {hook}", hint=f"it has some at {', '.join(read.by_hook)}")
    return {hook: vector}, [f"{hook} alone is taken, of {len(read.by_hook)} hooks"]


def _model(session: Session, name: str) -> ModelRow:
    rows = session.scalars(select(ModelRow).where(ModelRow.name == name).order_by(ModelRow.id.desc())).all()
    if not rows:
        known = session.scalars(select(ModelRow.name)).all()
        otherwise = f"there are: {', '.join(known)}" if known else "the store has no model yet"
        raise NotFound(f"no model called {name!r}", hint=nearest(name, known, otherwise=otherwise))
    return rows[0]


def _check_against(model: ModelRow, by_hook: Mapping[str, NDArray[np.float32]]) -> None:
    for hook, vector in by_hook.items():
        if len(vector) != model.d_model:
            raise BadInput(
                f"{hook}: the vector has {len(vector):,} numbers, and {model.name} is {model.d_model:,} wide",
                hint="was it made with another model?",
            )
        if (layer_of(hook) or 0) >= model.n_layers:
            raise BadInput(
                f"{model.name} has no {hook}: its layers are 0 to {model.n_layers - 1}",
                hint="was it made with another model, or are its layers counted otherwise? See --rows-are",
            )
