"""The map of a dictionary: laid out once, kept beside its weights, read back as long as nothing it depends on changes.

A map's file is named by a hash of all that changes it, so a new one never takes the place of one that is being read:
it is renamed into place and registered in one transaction, and the older one is removed after it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, StoreUnusable
from featuredb.labels.table import shown_labels
from featuredb.maps.layout import lay_out, with_direction
from featuredb.maps.points import MapPoint
from featuredb.progress import ProgressReport, silent
from featuredb.search.scope import figure_flags
from featuredb.store.catalog import DictionaryRow, FileRow, LeftoverRow
from featuredb.store.engine import disk_errors
from featuredb.store.files import rename_into_place
from featuredb.store.refs import get_dictionary
from featuredb.store.remove import sweep
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store
from featuredb.store.vectors import Rows

ROLE = "map"
FORMAT = "featuredb.map.v1"


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Which map. Checked when made."""

    dictionary: str
    seed: int = 0
    neighbors: int = 15
    """How many nearest features each is held close to: few keep small groups, many the shape of the whole."""
    all_features: bool = False
    """Also features that never fire."""
    force: bool = False
    """Lay it out again even where it is kept."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 32:
            raise BadInput(f"no seed {self.seed}", hint="a whole number from 0 up to 4294967295")
        if not 2 <= self.neighbors <= 1000:
            raise BadInput(f"cannot lay out by {self.neighbors} neighbors", hint="2 to 1000; 15 is usual")


def read_map(
    store: Store, reader: SegmentReader, request: MapRequest, progress: ProgressReport = silent
) -> list[MapPoint]:
    """The features of a dictionary by index, each with its place; those without a decoder row have none.

    Places are reproducible on one machine with one version of umap-learn. Raises NotFound for a dictionary that is not
    there or has no run, BadInput where no feature fires, PluginFailed where a map must be laid out without umap-learn.
    """
    with store.reading() as session:
        dictionary = get_dictionary(session, request.dictionary)
        segment = SegmentRef.newest(session, dictionary)
    figures = reader.figures(segment)
    n_fires, density = np.asarray(figures["n_fires"]), np.asarray(figures["density"])
    rows = Rows(store.paths.weights(request.dictionary), "w_dec")
    every = np.arange(len(n_fires), dtype=np.int64)
    features = with_direction(rows, every if request.all_features else every[n_fires > 0])
    if not len(features):
        raise BadInput(f"no feature of {request.dictionary} has fired yet", hint="--all lays out dead ones too")
    path = store.paths.feature_map(request.dictionary, _key(request, dictionary, features))
    positions = None if request.force else _kept(store, path, len(features))
    if positions is None:
        positions = lay_out(rows, features, seed=request.seed, neighbors=request.neighbors, progress=progress)
        _keep(store, request, path, features, positions)
    with store.reading() as session:
        labels = shown_labels(session, dictionary.id, features.tolist())
    return [
        MapPoint(
            dictionary=request.dictionary,
            index=index,
            label=labels.get(index),
            flags=figure_flags(int(n_fires[index]), float(density[index])),
            x=x,
            y=y,
            density=float(density[index]),
        )
        for index, (x, y) in zip(features.tolist(), positions.tolist(), strict=True)
    ]


def _key(request: MapRequest, dictionary: DictionaryRow, features: NDArray[np.int64]) -> str:
    """Sixteen hexadecimal digits: of everything that changes where a feature lies."""
    asked = [FORMAT, dictionary.fingerprint, request.seed, request.neighbors]
    digest = hashlib.sha256(json.dumps(asked).encode())
    digest.update(features.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _kept(store: Store, path: Path, n: int) -> NDArray[np.float32] | None:
    """The positions in a map's file; None where the store has none such. Raises StoreUnusable for a broken one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not _is_registered(store, path):
        return None
    try:
        arrays = load_file(path)
        positions = np.stack([arrays["x"], arrays["y"]], axis=1).astype(np.float32)
        if positions.shape != (n, 2) or not np.isfinite(positions).all():
            raise ValueError(f"it holds {len(positions)} places for {n} features")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StoreUnusable(f"{path} cannot be read as a map: {error}", hint="--force lays it out again") from error
    return positions


def _keep(
    store: Store, request: MapRequest, path: Path, features: NDArray[np.int64], positions: NDArray[np.float32]
) -> None:
    """Puts a map into the store, and takes the dictionary's older ones out."""
    from safetensors.numpy import save_file

    unfinished = store.paths.work / f"{path.stem}-{os.getpid()}.tmp"
    arrays: dict[str, Any] = {"feature": features.astype(np.int32), "x": positions[:, 0], "y": positions[:, 1]}
    metadata = {FORMAT: json.dumps({"seed": request.seed, "neighbors": request.neighbors})}
    try:
        with disk_errors(store.path):
            save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, unfinished, metadata)
        with store.session() as session:
            dictionary = get_dictionary(session, request.dictionary)  # it may be gone by now
            rename_into_place(unfinished, path)
            row = store.register_file(session, path, ROLE, dictionary_id=dictionary.id)
            session.flush()
            _remove_others(session, dictionary, row)
    except BaseException:
        if not _is_registered(store, path):
            path.unlink(missing_ok=True)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    sweep(store)


def _is_registered(store: Store, path: Path) -> bool:
    with store.reading() as session:
        return session.scalar(select(FileRow.id).where(FileRow.path == store.paths.relative(path))) is not None


def _remove_others(session: Session, dictionary: DictionaryRow, kept: FileRow) -> None:
    mine = select(FileRow).where(FileRow.dictionary_id == dictionary.id, FileRow.role == ROLE, FileRow.id != kept.id)
    waiting = set(session.scalars(select(LeftoverRow.path)))
    for other in session.scalars(mine):
        if other.path not in waiting:
            session.add(LeftoverRow(path=other.path))
        session.delete(other)
