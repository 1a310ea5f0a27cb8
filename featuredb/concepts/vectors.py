"""A concept, a file or numbers at hand, as vectors that are ready to be compared with a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featuredb.concepts.texts import Texts
from featuredb.errors import BadInput, NotFound, nearest
from featuredb.hooknames import canonical_hook, same_tensor

if TYPE_CHECKING:
    from featuredb.store.catalog import ConceptRow
    from featuredb.store.store import Store


Kind = Literal["pattern", "read-out", "unknown"]

KINDS: dict[str, Kind] = {"mean-difference": "pattern", "pca": "pattern", "lda": "read-out", "probe": "read-out"}
"""What each method makes."""


@dataclass(frozen=True)
class Vectors:
    """A concept or file, ready to be compared."""

    name: str
    by_hook: dict[str, NDArray[np.float32]]
    """(width,) by canonical hook, or by "" for a vector whose hook is not known."""
    model: str | None
    """The name of the model they were made with, where that is known."""
    texts: Texts | None
    token: str | None
    chat: bool
    fingerprint: str | None = None
    """Of that model."""
    kind: Kind = "unknown"
    """A "pattern" is what the concept adds to the stream, as a difference of means; a "read-out" is what tells it from
    the rest, as LDA finds. The two differ where coordinates go together: Haufe et al. (2014), NeuroImage 87."""


def read_vectors(store: Store, what: str | Path | ArrayLike, hook: str | None = None) -> Vectors:
    """The vectors that a concept's name, a file or numbers stand for; a name is a concept's before it is a file's.

    what: numbers are one vector (width,).
    hook: of a concept and a file that names its hooks, the one that is wanted, by any of its names; of other vectors,
        where they belong.
    Raises NotFound naming the nearest concepts, or when there is no vector for the hook; BadInput for what is no
    vector: zero, not finite, of more than one dimension.
    """
    asked = None if hook is None else canonical_hook(hook)
    if isinstance(what, str):
        found = _of_concept(store, what) or _of_file(Path(what), asked, store)
    elif isinstance(what, Path):
        found = _of_file(what, asked, None)
    else:
        found = Vectors("vector", {asked or "": one_vector(what, "the vector")}, None, None, None, chat=False)
    return found if asked is None else _only(found, asked)


def one_vector(values: Any, name: str) -> NDArray[np.float32]:
    """(width,) float32 of some numbers. Raises BadInput, with the value, where they are no direction."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{name} is not a row of numbers") from error
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{name} holds {array.dtype}, not numbers", hint="float32 is what directions are kept as")
    if array.ndim != 1 or array.size == 0:
        raise BadInput(f"{name} has shape {array.shape}", hint="a direction is one row of numbers")
    if not np.isfinite(array).all():
        place = int((~np.isfinite(array)).argmax())
        raise BadInput(f"{name} is not finite: number {place} is {array[place]}", hint="was it saved in float16?")
    with np.errstate(over="ignore"):
        vector: NDArray[np.float32] = array.astype(np.float32)
    if not np.isfinite(vector).all():
        place = int((~np.isfinite(vector)).argmax())
        raise BadInput(f"{name}: number {place} is {array[place]}, too large for float32")
    if not vector.any():
        raise BadInput(f"{name} is zero", hint="a direction needs a length")
    return vector


def vectors_of(row: ConceptRow) -> dict[str, NDArray[np.float32]]:
    """The directions of a concept in the catalog, by hook."""
    return {each.hook: np.frombuffer(each.vector, dtype="<f4").astype(np.float32) for each in row.directions}


def at_hook(by_hook: Mapping[str, NDArray[np.float32]], hook: str) -> NDArray[np.float32] | None:
    """The vector at a hook, or at another name of the same tensor; None where there is none."""
    if hook in by_hook:
        return by_hook[hook]
    return next((vector for own, vector in by_hook.items() if same_tensor(own) == same_tensor(hook)), None)


def _of_concept(store: Store, name: str) -> Vectors | None:
    from featuredb.concepts.catalog import find_concept

    with store.reading() as session:
        row = find_concept(session, name)
        if row is None:
            return None
        positive = tuple(text.text for text in row.texts if text.positive)
        negative = tuple(text.text for text in row.texts if not text.positive)
        settings = row.settings
        return Vectors(
            name=row.name,
            by_hook=vectors_of(row),
            model=row.model_name,
            texts=Texts(positive, negative) if positive and negative else None,
            token=settings.get("token"),
            chat=bool(settings.get("chat", False)),
            fingerprint=row.model_fingerprint,
            kind=KINDS.get(row.method, "unknown"),
        )


def _of_file(path: Path, hook: str | None, store: Store | None) -> Vectors:
    """store: where to look for what may have been meant, for a path that a user may have meant as a concept's name."""
    from featuredb.concepts.catalog import concept_names
    from featuredb.concepts.files import read_file

    if not _is_file(path):
        known = []
        if store is not None:
            with store.reading() as session:
                known = concept_names(session)
        otherwise = f"concepts: {', '.join(known[:8])}" if known else "`featuredb concept add` makes a concept"
        kind = "file at" if store is None else "concept or file called"
        raise NotFound(f"no {kind} {str(path)!r}", hint=nearest(str(path), known, otherwise=otherwise))
    read = read_file(path, hook=hook)
    return Vectors(path.stem, dict(read.by_hook), None, None, None, chat=False)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than any name
        return False


def _only(found: Vectors, hook: str) -> Vectors:
    vector = at_hook(found.by_hook, hook)
    if vector is None:
        raise NotFound(f"{found.name!r} has no vector at {hook}", hint=f"it has some at {', '.join(found.by_hook)}")
    return replace(found, by_hook={hook: vector})
