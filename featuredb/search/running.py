"""The models and dictionaries of a store, loaded as their newest runs used them and kept between questions.

Rule: what is loaded and how it is fed. No text is run here and nothing is ranked.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.capture.contexts import Packing
from featuredb.errors import BadInput, NotFound, nearest
from featuredb.hooknames import layer_of
from featuredb.labels.table import shown_labels
from featuredb.search.scope import ENOUGH_FIRINGS, chosen_dictionaries
from featuredb.store.catalog import DictionaryRow, ModelRow, RunRow, SegmentRow
from featuredb.store.changes import Changes
from featuredb.store.published import PUBLISHED
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.capture.encode import SparseEncoder
    from featuredb.model import Model

ENCODER_BYTES = 2 << 30
"""Encoders that are kept may take this much memory together; the one in use may take more by itself."""

MOST_LABELS = 200_000
"""Labels of a dictionary that are remembered."""

ModelKey = tuple[str, str, bool]

_NEWEST = (
    # Columns, not objects: this runs for every text that is asked about, and the session's bookkeeping would show.
    select(
        DictionaryRow.id,
        DictionaryRow.name,
        DictionaryRow.hook,
        DictionaryRow.n_features,
        DictionaryRow.fingerprint.label("weights"),
        ModelRow.name.label("model"),
        ModelRow.source,
        ModelRow.fingerprint,
        SegmentRow.path,
        RunRow.key,
        RunRow.n_tokens,
        RunRow.settings,
    )
    .join(ModelRow, DictionaryRow.model_id == ModelRow.id)
    .join(SegmentRow, SegmentRow.dictionary_id == DictionaryRow.id)
    .join(RunRow, SegmentRow.run_id == RunRow.id)
    .where(DictionaryRow.kind != PUBLISHED)  # without weights there is nothing to run
    .order_by(DictionaryRow.name, RunRow.id)
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A dictionary, and how its newest run fed the model."""

    name: str
    dictionary_id: int
    hook: str
    n_features: int
    weights: str
    """Fingerprint of the dictionary."""
    segment: SegmentRef
    model: str
    source: str
    """What the model was loaded from."""
    fingerprint: str
    """Of the model."""
    settings: dict[str, Any]
    """The run's."""

    @property
    def packing(self) -> Packing:
        """How the run's contexts were made, but that each text stands alone."""
        packing = self.settings["packing"]
        return Packing("document", packing["context_length"], packing["bos_id"], None)

    @property
    def model_key(self) -> ModelKey:
        """The same for readings that run the same model in the same way."""
        return self.fingerprint, self.settings["dtype"], bool(self.settings.get("trust_remote_code", False))


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A dictionary ready to be run."""

    model: Model
    encoder: SparseEncoder
    """In float32, where the model runs."""
    reading: Reading


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What a dictionary's newest run says of each feature; every array is (n_features,)."""

    n_fires: NDArray[np.int64]
    density: NDArray[np.float64]
    largest: NDArray[np.float64]
    """What an activation is held against: the largest the run met. Where it met fewer than ENOUGH_FIRINGS, that is not
    known, and the median of the other features' stands in where it is larger."""
    surprise: NDArray[np.float64]
    """-log2 of the share of tokens on which the feature fires, one firing added so that none is infinite; bits."""

    @staticmethod
    def of(columns: dict[str, Any], n_tokens: int) -> Figures:
        """columns: as SegmentReader.figures gives them."""
        n_fires = np.asarray(columns["n_fires"], dtype=np.int64)
        largest = np.asarray(columns["max"], dtype=np.float64)
        enough = n_fires >= ENOUGH_FIRINGS
        if enough.any():
            largest = np.where(enough, largest, np.maximum(largest, np.median(largest[enough])))
        surprise = -np.log2(np.minimum((n_fires + 1) / (n_tokens + 1), 1.0))
        return Figures(n_fires, np.asarray(columns["density"], dtype=np.float64), largest, surprise + 0.0)


@dataclass(frozen=True, slots=True)
class Known:
    """What has been read of one state of the catalog, so that the next text need not ask again."""

    version: int | None
    readings: dict[object, list[Reading]] = field(default_factory=dict)
    labels: dict[int, dict[int, str | None]] = field(default_factory=dict)
    """By dictionary and feature; None for one without a label."""


class Running:
    """Loads what one store names. Models stay loaded; encoders too, up to `encoder_bytes`, the last used ones."""

    def __init__(self, store: Store, reader: SegmentReader, encoder_bytes: int = ENCODER_BYTES) -> None:
        self._store = store
        self._reader = reader
        self._encoder_bytes = encoder_bytes
        self._turn = threading.RLock()
        self._models: dict[ModelKey, Model] = {}
        self._encoders: OrderedDict[tuple[str, str], SparseEncoder] = OrderedDict()
        self._figures: dict[str, Figures] = {}
        self._changes = Changes(store)
        self._known = Known(None)

    def known(self) -> Known:
        """What has been read of the catalog as it is now. Ask before a session reads, and use it with that session."""
        version = self._changes.version()
        if version is None or version != self._known.version:
            self._known = Known(version)
        return self._known

    def readings(
        self,
        session: Session,
        known: Known,
        names: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Reading]:
        """The dictionaries of those names and layers, as `chosen_dictionaries` chooses them.

        Raises NotFound for one that is not there, or that no run has read.
        """
        asked = (None if names is None else tuple(names), None if layers is None else tuple(layers))
        if asked not in known.readings:
            known.readings[asked] = _readings(session, *asked)
        return known.readings[asked]

    def labels(self, session: Session, known: Known, reading: Reading, features: Iterable[int]) -> dict[int, str]:
        """The shown label of each of some features that has one."""
        mine = known.labels.setdefault(reading.dictionary_id, {})
        wanted = set(features)
        if new := wanted - mine.keys():
            mine |= dict.fromkeys(new) | shown_labels(session, reading.dictionary_id, new)
        labels = {index: label for index in wanted if (label := mine[index]) is not None}
        if len(mine) > MOST_LABELS:
            mine.clear()
        return labels

    def close(self) -> None:
        """Lets go of the store's files."""
        self._changes.close()

    def open(self, name: str) -> Loaded:
        """The dictionary of that name with its model. Raises NotFound, and BadInput where the model has changed."""
        known = self.known()
        with self._store.reading() as session:
            (reading,) = self.readings(session, known, [name])
        with self._turn:
            model = self.model(reading)
            return Loaded(model, self.encoder(reading, model), reading)

    def model(self, reading: Reading) -> Model:
        """The model that a dictionary was run on. Raises BadInput where another lies in its place now."""
        return self._load(reading.model_key, reading.source, f"the one {reading.name} was ingested with")

    def named_model(self, name: str | None, fingerprint: str | None = None) -> Model:
        """The store's model of a name or source, run as its newest run ran it; else what is loaded under that name.

        name: None takes the model of that fingerprint, or the store's only one. Raises NotFound where there is none,
        and BadInput where several may be meant, or another lies in its place now.
        """
        with self._store.reading() as session:
            # Of a publication's model no more than the name is known.
            named = ~ModelRow.fingerprint.startswith(f"{PUBLISHED}:")
            rows = list(session.scalars(select(ModelRow).where(named).order_by(ModelRow.id)))
            names = [row.name for row in rows]
            if name is not None:
                known = {name, str(Path(name).expanduser().resolve())}
                rows = [row for row in rows if known & {row.name, row.source}]
            rows = [row for row in rows if row.fingerprint == fingerprint] or rows
            if name is None and not rows:
                raise NotFound("the store has no model yet", hint="say which to run with --model")
            if len({row.source for row in rows}) > 1:
                told = ", ".join(sorted({f"{row.name} ({row.source})" for row in rows}))
                raise BadInput(f"several models of the store may be meant: {told}", hint="say which with --model")
            if not rows:
                return _elsewhere(str(name), names)
            row = rows[-1]  # of several from one place, the newest is what lies there now
            newest = select(RunRow.settings).where(RunRow.model_id == row.id).order_by(RunRow.id.desc()).limit(1)
            settings = session.scalar(newest) or {}
        key = (row.fingerprint, settings.get("dtype", "auto"), bool(settings.get("trust_remote_code", False)))
        return self._load(key, row.source, f"the one the store knows as {row.name}")

    def _load(self, key: ModelKey, source: str, which: str) -> Model:
        from featuredb.model import load_model

        fingerprint, dtype, trust = key
        with self._turn:
            if key not in self._models:
                model = load_model(source, dtype=dtype, trust_remote_code=trust)
                if model.fingerprint != fingerprint:
                    raise BadInput(
                        f"the model at {source} is not {which}", hint="ingest it again, or put the old weights back"
                    )
                self._models[key] = model
            return self._models[key]

    def encoder(self, reading: Reading, model: Model) -> SparseEncoder:
        """The dictionary's encoder; those used longest ago make room for it."""
        import torch

        from featuredb.capture.encode import SparseEncoder
        from featuredb.dictionary import Dictionary

        known = (reading.name, reading.weights)
        with self._turn:
            if known not in self._encoders:
                dictionary = Dictionary.read(self._store.paths.weights(reading.name))
                self._encoders[known] = SparseEncoder(dictionary.to(device=model.device, dtype=torch.float32))
            self._encoders.move_to_end(known)
            while len(self._encoders) > 1 and sum(map(n_bytes, self._encoders.values())) > self._encoder_bytes:
                self._encoders.popitem(last=False)
            return self._encoders[known]

    def figures(self, reading: Reading) -> Figures:
        """What the dictionary's newest run says of each feature."""
        path = reading.segment.path
        if path not in self._figures:
            self._figures[path] = Figures.of(self._reader.figures(reading.segment), reading.segment.n_tokens)
        return self._figures[path]

    def token_texts(self, reading: Reading) -> list[str]:
        """The display text of every token id of the model."""
        return self._reader.tokens(reading.segment)


def _elsewhere(source: str, known: Sequence[str]) -> Model:
    """A model that the store has not, from where its name says. Raises NotFound, naming the nearest of the store's."""
    from featuredb.model import load_model

    try:
        return load_model(source)
    except NotFound as error:
        raise NotFound(error.message, hint=nearest(source, known, otherwise=error.hint)) from error


def _readings(session: Session, names: Sequence[str] | None, layers: Sequence[int] | None) -> list[Reading]:
    statement = _NEWEST if names is None else _NEWEST.where(DictionaryRow.name.in_(names))
    # The last row of a dictionary is of its newest run, and stays.
    known = {row.name: row for row in session.execute(statement)}
    wanted = [known[name] for name in dict.fromkeys(known if names is None else names) if name in known]
    found = [row for row in wanted if layers is None or layer_of(row.hook) in layers]
    if not found or (names is not None and not known.keys() >= set(names)):
        chosen = chosen_dictionaries(session, names, layers)  # which says what is not there
        for row in chosen:
            if row.kind == PUBLISHED:
                raise BadInput(
                    f"{row.name} was published without weights: it cannot be run",
                    hint="ingest the dictionary itself, under another name",
                )
        raise NotFound(f"{chosen[0].name} has no run", hint="`featuredb ingest model` makes one")
    return [_reading(row) for row in found]


def _reading(row: Any) -> Reading:
    segment = SegmentRef(row.name, row.key, row.path, f"runs/{row.key}/contexts.duckdb", row.n_tokens)
    return Reading(
        name=row.name,
        dictionary_id=row.id,
        hook=row.hook,
        n_features=row.n_features,
        weights=row.weights,
        segment=segment,
        model=row.model,
        source=row.source,
        fingerprint=row.fingerprint,
        settings=row.settings,
    )


def n_bytes(encoder: SparseEncoder) -> int:
    """What an encoder takes in memory, its buffer included."""
    arrays = sum(values.numel() * values.element_size() for values in encoder.dictionary.tensors().values())
    return arrays + 4 * encoder.chunk_rows * encoder.dictionary.n_features
