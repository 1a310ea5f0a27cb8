"""Writing the segment of a dictionary that somebody published: the tables of a capture, from features in order.

Rule: figures that are not published are null. Nothing is counted, estimated or drawn here but which texts are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featuredb.capture.segment import TOP, _new_segment, _store
from featuredb.errors import BadInput, PluginFailed
from featuredb.labels.publication import PublishedExample, PublishedFeature
from featuredb.store.published import PUBLISHED, WHOLE, as_json

MAX_EXAMPLES = 2**16
"""Of one feature: a segment counts ranks in 16 bits."""

BATCH_FEATURES = 1024
BATCH_TOKENS = 2**20
"""Rows are written when as many features, or tokens of new texts, are waiting."""

_INTS, _FLOATS = pa.list_(pa.int32()), pa.list_(pa.float32())
_SCHEMAS = {
    "feature": pa.schema(
        [
            ("feature", pa.int32()),
            ("n_fires", pa.int64()),
            ("n_contexts", pa.int64()),
            ("density", pa.float64()),
            ("max", pa.float32()),
            ("mean", pa.float64()),
            ("m2", pa.float64()),
            ("histogram", pa.list_(pa.uint32())),
            ("promoted", _INTS),
            ("promoted_values", _FLOATS),
            ("suppressed", _INTS),
            ("suppressed_values", _FLOATS),
        ]
    ),
    "example": pa.schema(
        [
            ("feature", pa.int32()),
            ("kind", pa.uint8()),
            ("rank", pa.uint16()),
            ("context", pa.int32()),
            ("position", pa.uint16()),
            ("activation", pa.float32()),
            ("window_start", pa.uint16()),
            ("window", pa.list_(pa.uint8())),
        ]
    ),
    "panel": pa.schema(
        [("feature", pa.int32()), ("context", pa.int32()), ("position", pa.uint16()), ("activation", pa.float32())]
    ),
    PUBLISHED: pa.schema([("feature", pa.int32()), ("extra", pa.string())]),
    "context": pa.schema(
        [
            ("context", pa.int32()),
            ("stream_index", pa.int64()),
            ("tokens", _INTS),
            ("piece_starts", _INTS),
            ("piece_ends", _INTS),
            ("piece_documents", _INTS),
            ("piece_offsets", _INTS),
            ("on_panel", pa.bool_()),
        ]
    ),
    "document": pa.schema([("document", pa.int32()), ("name", pa.string())]),
    "token": pa.schema([("token", pa.int32()), ("text", pa.string())]),
}
_SILENT: dict[str, Any] = {field.name: [] if pa.types.is_list(field.type) else None for field in _SCHEMAS["feature"]}
"""A feature of which nothing is known."""

_OF_CONTEXTS = ("context", "document", "token")


@dataclass
class Tally:
    """What a publication's features came to."""

    n_described: int = 0
    """Features of which anything but labels is said."""
    n_examples: int = 0
    n_silent: int = 0
    """Texts on which the feature does not fire: no examples, and not kept."""
    n_repeated: int = 0
    """Texts that a feature has twice; the stronger is kept."""
    n_two_signed: int = 0
    """Examples with activations of both signs, of which those of the peak's sign are kept."""
    n_contexts: int = 0
    n_tokens: int = 0
    """Of all texts kept, each counted once."""
    longest: int = 0


class PublishedSegment:
    """Two files being written, complete when the block ends: a run's contexts and its one dictionary."""

    def __init__(self, contexts: Path, segment: Path, n_features: int, meta: dict[str, str]) -> None:
        """meta: facts for both files."""
        self._paths = (contexts, segment)
        self._n_features = n_features
        self._meta = meta
        self._stack = ExitStack()
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _SCHEMAS}
        self._made: set[str] = set()
        self._tokens: dict[str, int] = {}
        self._contexts: dict[bytes, int] = {}
        self._waiting_tokens = 0
        self._next = 0
        self.tally = Tally()

    def __enter__(self) -> PublishedSegment:
        contexts, segment = self._paths
        self._text = self._stack.enter_context(_new_segment(contexts, self._meta, row_group=16_384))
        own = self._meta | {WHOLE[0]: WHOLE[1]}
        self._kept = self._stack.enter_context(_new_segment(segment, own, row_group=122_880))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failed:
            self._stack.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def add(self, feature: PublishedFeature) -> None:
        """The next feature; those passed over get a row that says nothing. Raises PluginFailed out of order."""
        if not self._next <= feature.index < self._n_features:
            raise PluginFailed(
                f"publication gives feature {feature.index} after {self._next - 1}, of {self._n_features}",
                hint="its reader must give features by index, each once",
            )
        self._skip_to(feature.index)
        examples = self._examples(feature)
        self._feature_row(feature, max((abs(one["activation"]) for one in examples), default=None))
        self._next = feature.index + 1
        if self._waiting_tokens >= BATCH_TOKENS or len(self._rows["feature"]) >= BATCH_FEATURES:
            self._write()

    def _finish(self) -> None:
        self._skip_to(self._n_features)
        texts = [{"token": number, "text": text} for text, number in self._tokens.items()]
        for start in range(0, len(texts), BATCH_TOKENS):
            self._rows["token"] = texts[start : start + BATCH_TOKENS]
            self._write()
        self._write(every=True)

    def _skip_to(self, index: int) -> None:
        """Rows that say nothing for the features before `index`: a few, or most of a dictionary of millions."""
        if index - self._next <= BATCH_FEATURES:
            self._rows["feature"] += [_SILENT | {"feature": number} for number in range(self._next, index)]
            return
        self._write()
        for start in range(self._next, index, BATCH_TOKENS):
            table = _nothing(start, min(index, start + BATCH_TOKENS))
            _store(self._kept, "feature", table, create="feature" not in self._made)
            self._made.add("feature")

    def _feature_row(self, feature: PublishedFeature, strongest: float | None) -> None:
        largest = feature.max_activation if feature.max_activation is not None else strongest
        # The one count that follows from what is published: a density of zero, and nothing that says otherwise.
        never = feature.density == 0 and not largest
        row: dict[str, Any] = {
            "feature": feature.index,
            "n_fires": 0 if never else None,
            "n_contexts": 0 if never else None,
            "density": feature.density,
            "max": 0.0 if never else largest,
            "mean": 0.0 if never else None,
            "m2": 0.0 if never else None,
            "histogram": [],
        }
        for name, weights in (("promoted", feature.promoted), ("suppressed", feature.suppressed)):
            row[name] = [self._token(text) for text, _ in weights]
            row[f"{name}_values"] = [value for _, value in weights]
        self._rows["feature"].append(row)
        if feature.density is not None or largest is not None or feature.promoted or feature.suppressed:
            self.tally.n_described += 1

    def _examples(self, feature: PublishedFeature) -> list[dict[str, Any]]:
        """Puts a feature's examples, the strongest first, and what else is said of it, among the waiting rows."""
        chosen: dict[int, tuple[dict[str, Any], Mapping[str, Any]]] = {}
        if len(feature.examples) > MAX_EXAMPLES:
            raise BadInput(
                f"feature {feature.index} has {len(feature.examples):,} examples, more than {MAX_EXAMPLES:,}"
            )
        given = [(self._row(one), one) for one in feature.examples]
        # Equal ones by their text, so that the order in which they came does not matter.
        for row, example in sorted(given, key=lambda pair: (-abs(pair[0]["activation"]), pair[1].tokens)):
            if row["activation"] == 0:
                self.tally.n_silent += 1
            elif (context := self._context(example)) in chosen:
                self.tally.n_repeated += 1
            else:
                chosen[context] = row | {"context": context}, example.extra
        # Equal activations by context, as everywhere else.
        ordered = sorted(chosen.values(), key=lambda pair: (-abs(pair[0]["activation"]), pair[0]["context"]))
        rows = [row | {"feature": feature.index, "kind": TOP, "rank": rank} for rank, (row, _) in enumerate(ordered)]
        self._rows["example"] += rows
        self.tally.n_examples += len(rows)
        extra = {
            "fields": dict(feature.extra),
            "examples": [dict(more) for _, more in ordered] if any(more for _, more in ordered) else [],
            "vector": list(feature.vector) if feature.vector is not None else None,
        }
        if any(extra.values()):
            said = {name: value for name, value in extra.items() if value}
            text = as_json(said, f"what is said of feature {feature.index}")
            self._rows[PUBLISHED].append({"feature": feature.index, "extra": text})
        return rows

    def _row(self, example: PublishedExample) -> dict[str, Any]:
        """Peak and window of an example; an activation of 0 where the feature does not fire on it."""
        values = np.asarray(example.activations, dtype=np.float32)
        if not values.any():
            return {"activation": 0.0}
        position = int(np.abs(values).argmax())
        peak = values[position]
        signs = np.sign(values) == np.sign(peak)
        self.tally.n_two_signed += bool((values[~signs] != 0).any())
        window = _shares(np.where(signs, values, 0), peak)
        fires = np.flatnonzero(window)
        return {
            "position": position,
            "activation": float(peak),
            "window_start": int(fires[0]),
            "window": window[fires[0] : fires[-1] + 1],
        }

    def _token(self, text: str) -> int:
        return self._tokens.setdefault(text, len(self._tokens))

    def _context(self, example: PublishedExample) -> int:
        """The number of an example's text, which is written once however many features fire on it."""
        ids = np.array([self._token(text) for text in example.tokens], dtype="<i4")
        same = hashlib.blake2b(ids.tobytes(), digest_size=16).digest()
        number = self._contexts.get(same)
        if number is None:
            number = self._contexts[same] = len(self._contexts)
            self._rows["context"].append(_context_row(number, ids))
            # Its name decides whose half of the texts it is in, so it must be the same in every import, as the
            # numbers of tokens are not.
            digest = _text_digest(example.tokens)
            name = f"{example.source}/{digest}" if example.source else digest
            self._rows["document"].append({"document": number, "name": name})
            self._waiting_tokens += len(ids)
            self.tally.n_contexts += 1
            self.tally.n_tokens += len(ids)
            self.tally.longest = max(self.tally.longest, len(ids))
        return number

    def _write(self, *, every: bool = False) -> None:
        """every: also tables that have no rows."""
        for name, rows in self._rows.items():
            if rows or (every and name not in self._made):
                connection = self._text if name in _OF_CONTEXTS else self._kept
                _store(connection, name, _table(name, rows), create=name not in self._made)
                self._made.add(name)
        self._rows = {name: [] for name in _SCHEMAS}
        self._waiting_tokens = 0


def _shares(values: NDArray[np.float32], peak: np.float32) -> NDArray[np.uint8]:
    """Activations as shares of the peak in 1/255, at least 1 where the feature fires, as a capture keeps them."""
    share = np.abs(values) / np.abs(peak)
    shares: NDArray[np.uint8] = np.where(values != 0, np.maximum(1, np.rint(255 * share)), 0).astype(np.uint8)
    return shares


def _text_digest(tokens: Sequence[str]) -> str:
    parts = (token.encode() for token in tokens)
    joined = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return hashlib.blake2b(joined, digest_size=16).hexdigest()


def _nothing(start: int, end: int) -> pa.Table:
    """_SILENT for many features."""
    schema = _SCHEMAS["feature"]
    columns = []
    for field in schema:
        if pa.types.is_list(field.type):
            offsets = pa.array(np.zeros(end - start + 1, np.int32))
            columns.append(pa.ListArray.from_arrays(offsets, pa.array([], field.type.value_type)))
        else:
            columns.append(pa.nulls(end - start, field.type))
    columns[0] = pa.array(np.arange(start, end, dtype=np.int32))
    return pa.Table.from_arrays(columns, schema=schema)


def _context_row(number: int, ids: NDArray[np.int32]) -> dict[str, Any]:
    return {
        "context": number,
        "stream_index": number,
        "tokens": ids,
        "piece_starts": [0],
        "piece_ends": [len(ids)],
        "piece_documents": [number],
        "piece_offsets": [0],
        "on_panel": False,
    }


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = _SCHEMAS[name]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
