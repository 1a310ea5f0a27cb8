"""Which features fire on a text: the model and the dictionaries of a store, run again as they were ingested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from featuredb.errors import BadInput, NotFound
from featuredb.labels.table import shown_labels
from featuredb.records import FiredFeature
from featuredb.store.catalog import DictionaryRow, RunRow
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.capture.encode import SparseEncoder
    from featuredb.model import Model


@dataclass(frozen=True, slots=True)
class _Reading:
    """A dictionary, and how its newest run fed the model."""

    name: str
    dictionary_id: int
    hook: str
    segment: SegmentRef
    source: str
    fingerprint: str
    settings: dict[str, Any]


class Activator:
    """Runs texts through the models of one store, which stay loaded from one text to the next."""

    def __init__(self, store: Store, reader: SegmentReader) -> None:
        self._store = store
        self._reader = reader
        self._models: dict[tuple[str, str], Model] = {}
        self._encoders: dict[str, SparseEncoder] = {}
        self._figures: dict[str, dict[str, Any]] = {}

    def activate(self, text: str, dictionaries: Sequence[str] | None, limit: int) -> list[FiredFeature]:
        """The features that fire on a text, those that say most first.

        A feature's score is its largest activation on the text, as a share of the largest it is known to have, times
        the surprise -log2(density) of its firing at all: what fires everywhere says little. A text longer than the
        run's contexts is cut into several, none of it left out. Raises BadInput for a text without tokens.
        """
        if not text.strip():
            raise BadInput("the text is empty", hint="give some words to run")
        fired = []
        for reading in self._readings(dictionaries):
            model = self._model(reading)
            ids = model.encode_text(text)
            if len(ids) == 0:
                raise BadInput(f"the text {text!r} has no tokens for {model.name}")
            fired += self._fired(reading, model, ids, limit)
        fired.sort(key=lambda each: (-each.score, each.dictionary, each.index))
        return fired[:limit]

    def _readings(self, names: Sequence[str] | None) -> list[_Reading]:
        with self._store.reading() as session:
            if names is None:
                rows = list(session.scalars(select(DictionaryRow).order_by(DictionaryRow.name)))
            else:
                rows = [get_dictionary(session, name) for name in names]
            if not rows:
                raise NotFound("the store has no dictionary", hint="`featuredb ingest model` adds one")
            readings = []
            for row in rows:
                segment = SegmentRef.newest(session, row)
                run = session.scalars(select(RunRow).where(RunRow.key == segment.run)).one()
                readings.append(
                    _Reading(row.name, row.id, row.hook, segment, row.model.source, row.model.fingerprint, run.settings)
                )
        return readings

    def _model(self, reading: _Reading) -> Model:
        from featuredb.model import load_model

        known = (reading.source, reading.settings["dtype"])
        if known not in self._models:
            trust = bool(reading.settings.get("trust_remote_code", False))
            model = load_model(reading.source, dtype=reading.settings["dtype"], trust_remote_code=trust)
            if model.fingerprint != reading.fingerprint:
                raise BadInput(
                    f"the model at {reading.source} is not the one {reading.name} was ingested with",
                    hint="ingest it again, or put the old weights back",
                )
            self._models[known] = model
        return self._models[known]

    def _encoder(self, reading: _Reading, model: Model) -> SparseEncoder:
        import torch

        from featuredb.capture.encode import SparseEncoder
        from featuredb.dictionary import Dictionary

        if reading.name not in self._encoders:
            dictionary = Dictionary.read(self._store.paths.weights(reading.name))
            self._encoders[reading.name] = SparseEncoder(dictionary.to(device=model.device, dtype=torch.float32))
        return self._encoders[reading.name]

    def _vectors(self, reading: _Reading, model: Model, ids: NDArray[np.int32]) -> Any:
        """(n_tokens, d) float32 activations at the dictionary's hook, the text cut into contexts as the run's were."""
        import torch

        packing = reading.settings["packing"]
        opener = [] if packing["bos_id"] is None else [packing["bos_id"]]
        body = packing["context_length"] - len(opener)
        parts = []
        for start in range(0, len(ids), body):
            row = torch.tensor([[*opener, *ids[start : start + body].tolist()]])
            output = model.run(row, torch.ones_like(row, dtype=torch.bool), [reading.hook])[reading.hook]
            parts.append(output[0, len(opener) :].float())
        return torch.cat(parts)

    def _fired(self, reading: _Reading, model: Model, ids: NDArray[np.int32], limit: int) -> list[FiredFeature]:
        found = self._encoder(reading, model).encode(self._vectors(reading, model, ids))
        if len(found.row) == 0:
            return []
        best = np.zeros(self._encoders[reading.name].dictionary.n_features, dtype=np.float32)
        np.maximum.at(best, found.feature, np.abs(found.activation))
        score = self._score(reading, best)
        chosen = [index for index in np.lexsort((np.arange(len(best)), -score))[:limit].tolist() if best[index] > 0]
        texts = self._reader.tokens(reading.segment)
        tokens = tuple(texts[token] for token in ids.tolist())
        with self._store.reading() as session:
            labels = shown_labels(session, reading.dictionary_id, chosen)
        fired = []
        for index in chosen:
            mine = found.feature == index
            activations = np.zeros(len(ids), dtype=np.float32)
            activations[found.row[mine]] = found.activation[mine]
            peak = int(np.abs(activations).argmax())
            fired.append(
                FiredFeature(
                    dictionary=reading.name,
                    index=index,
                    label=labels.get(index),
                    activation=float(activations[peak]),
                    token=tokens[peak],
                    position=peak,
                    activations=tuple(activations.tolist()),
                    score=float(score[index]),
                    tokens=tokens,
                )
            )
        return fired

    def _score(self, reading: _Reading, best: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n_features,) what each feature's largest activation on the text says; see `activate`."""
        if reading.segment.path not in self._figures:
            self._figures[reading.segment.path] = self._reader.figures(reading.segment)
        figures = self._figures[reading.segment.path]
        density = (figures["n_fires"] + 1) / (reading.segment.n_tokens + 1)  # one firing more, so none is infinite
        share = best / np.maximum(np.maximum(figures["max"], best), np.finfo(np.float32).tiny)
        score: NDArray[np.float64] = share * -np.log2(np.minimum(density, 1.0))
        return score
