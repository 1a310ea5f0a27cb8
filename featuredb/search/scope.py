"""Which features an answer may be about: the dictionaries that were named, and what a feature's figures say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from featuredb.errors import NotFound
from featuredb.hooknames import layer_of
from featuredb.store.catalog import DictionaryRow
from featuredb.store.refs import get_dictionary

ENOUGH_FIRINGS = 200
"""A feature that fired less often is under-sampled: its figures are those of a handful of contexts.

Source: the least at which Delphi scores a feature; Paulo et al. (2025), arXiv:2410.13928.
"""

DENSE = 0.1
"""A feature that fires on a larger share of the tokens is dense. Source: Sun et al. (2025), arXiv:2506.15679."""


def chosen_dictionaries(
    session: Session, names: Sequence[str] | None = None, layers: Sequence[int] | None = None
) -> list[DictionaryRow]:
    """The dictionaries of those names (None: all, by name) that read at those layers (None: any), models loaded.

    Raises NotFound for a name that is not there, for an empty store, and where no dictionary reads at the layers.
    """
    if names is None:
        found = list(
            session.scalars(select(DictionaryRow).options(joinedload(DictionaryRow.model)).order_by(DictionaryRow.name))
        )
        if not found:
            raise NotFound("the store has no dictionary", hint="`featuredb ingest model` adds one")
    else:
        found = [get_dictionary(session, name) for name in dict.fromkeys(names)]
    if layers is None:
        return found
    at = [row for row in found if layer_of(row.hook) in layers]
    if not at:
        there = sorted({row.hook for row in found})
        wanted = ", ".join(map(str, sorted(set(layers))))
        raise NotFound(f"no dictionary reads at layer {wanted}", hint=f"there are dictionaries at {', '.join(there)}")
    return at


def figure_flags(n_fires: int, density: float) -> tuple[str, ...]:
    """What a feature's figures alone say against it: "dead", "under-sampled" or "dense"."""
    if n_fires == 0:
        return ("dead",)
    flags = ("under-sampled",) if n_fires < ENOUGH_FIRINGS else ()
    return (*flags, "dense") if density > DENSE else flags


def well_sampled(figures: dict[str, Any]) -> NDArray[np.bool_]:
    """(n_features,) whether each feature fired often enough to be ranked. figures: as SegmentReader.figures gives."""
    enough: NDArray[np.bool_] = np.asarray(figures["n_fires"]) >= ENOUGH_FIRINGS
    return enough
