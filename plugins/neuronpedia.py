"""Neuronpedia's exports, read and written: v1/{model}/{source}/{features,activations,explanations}/batch-{n}.jsonl.gz.

Source: utils/neuronpedia-utils/neuronpedia_utils/export-data.py of github.com/hijohnnylin/neuronpedia, for the rows and
their order; SAEDashboard's neuronpedia_export.py writes the same folders with other batches and more columns.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featuredb.errors import BadInput, NotFound
from featuredb.labels import published_files as files
from featuredb.labels.feature_spool import FeatureSpool, Spooled
from featuredb.labels.publication import (
    ExportRequest,
    Publication,
    PublishedExample,
    PublishedFeature,
    PublishedLabel,
    PublishedScore,
)
from featuredb.labels.published_files import Row, Where

PUBLISHER = "neuronpedia"
FOLDERS = ("features", "activations", "explanations", "scores")
FEATURE, EXAMPLE, LABEL, SCORE = range(4)
_BATCH_FILE = re.compile(r"batch-(\d{1,9})\.jsonl(?:\.gz)?")
_ANY_FILE = re.compile(r".+\.jsonl(?:\.gz)?")
_META = ("model", "source", "sourceset", "release")
_LONGEST_META = 2**20
_MOST_FOLDERS = 4_096
_LONGEST_DETAILS = 16_384
_IDENTITY = {"modelId", "layer", "index", "creatorId", "createdAt"}
_OWN = _IDENTITY | {"maxActApprox", "frac_nonzero", "pos_str", "pos_values", "neg_str", "neg_values", "vector"}
_EXAMPLE_EXTRA = ("binMin", "binMax", "binContains", "qualifyingTokenIndex", "dfaMaxValue", "dfaTargetIndex")
_LABEL_EXTRA = ("id", "authorId", "umap_x", "umap_y", "umap_cluster", "umap_log_feature_sparsity")


class Neuronpedia:
    """A source's folder of a Neuronpedia export, or one batch of it; scores, which it leaves out, lie beside."""

    name = "neuronpedia.v1"

    def recognises(self, source: Path) -> bool:
        if source.is_dir():
            try:
                return bool(_sources(source))
            except OSError:
                return False
        if not source.is_file() or not _ANY_FILE.fullmatch(source.name):
            return False
        try:
            _, row = next(files.json_rows(source), (None, {}))
        except (BadInput, NotFound):
            return False
        return {"modelId", "layer", "index"} <= row.keys()

    def read(self, source: Path) -> Publication:
        found = _locate(source)
        reading = _Reading()
        for name, paths in found.batches.items():
            for path in paths:
                reading.take(path)
            reading.warnings += _gaps(name, paths)
        if reading.identity is None:
            raise BadInput(f"{source} holds no row", hint="is the export complete?")
        model, layer = reading.identity
        meta = _meta(found.folder, model, layer)
        number = re.match(r"(\d+)-", layer)
        extra = {
            "source": f"{model}/{layer}",
            "layer": int(number[1]) if number else None,
            "n_tokens": _n_tokens(meta.get("source", {})),
            PUBLISHER: meta,
        }
        return Publication(
            name=files.dictionary_name(model, layer),
            publisher=PUBLISHER,
            model=model,
            hook=reading.hook,
            n_features=reading.spool.n_features,
            features=_Features(reading.spool, reading.paths),
            extra={name: value for name, value in extra.items() if value not in (None, {})},
            warnings=tuple(reading.said()),
        )

    def write(self, request: ExportRequest, folder: Path) -> int:
        from featuredb_plugins._neuronpedia_rows import write_source

        return write_source(request, folder)


@dataclass
class _Found:
    folder: Path | None
    """Where model.jsonl and its like may be."""
    batches: dict[str, list[Path]]


def _sources(folder: Path) -> list[Path]:
    """The sources' folders at a folder and up to three below it: v1/{model}/{source}."""
    level = [folder]
    for _ in range(4):
        level = level[:_MOST_FOLDERS]
        found = [one for one in level if any((one / name).is_dir() and _files(one / name) for name in FOLDERS[:3])]
        if found:
            return sorted(found)
        if level == [folder] and _files(folder):
            return [folder]
        level = [below for one in level for below in one.iterdir() if below.is_dir() and not below.is_symlink()]
    return []


def _files(folder: Path) -> list[Path]:
    """Its batches, in order of number."""
    found = [(match, path) for path in folder.iterdir() if (match := _BATCH_FILE.fullmatch(path.name))]
    return [path for _, path in sorted(found, key=lambda one: (int(one[0][1]), one[1].name)) if path.is_file()]


def _locate(source: Path) -> _Found:
    if not source.exists():
        raise NotFound(f"no file or folder at {source}")
    if source.is_file():
        return _Found(None, {"": [source]})
    try:
        sources = _sources(source)
    except OSError as error:
        raise files.unreadable(source, error) from error
    if not sources:
        raise BadInput(f"{source} holds no batch-0.jsonl.gz", hint=f"in one of the folders {', '.join(FOLDERS[:3])}")
    if len(sources) > 1:
        listed = " or ".join(str(one) for one in sources[:3])
        raise BadInput(f"{source} holds {len(sources)} sources", hint=f"name one: {listed}")
    (folder,) = sources
    if _files(folder):
        return _Found(folder.parent, {folder.name: _files(folder)})
    return _Found(folder, {name: _files(folder / name) for name in FOLDERS if (folder / name).is_dir()})


def _gaps(name: str, paths: Sequence[Path]) -> list[str]:
    """What is said of batches that are missing between others."""
    numbers = {int(match[1]) for path in paths if (match := _BATCH_FILE.fullmatch(path.name))}
    missing = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
    if not missing or not name:
        return []
    return [f"{name}: of batches 0 to {max(numbers)}, {files.ranges(missing)} {_are(len(missing))} missing"]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _meta(folder: Path | None, model: str, layer: str) -> dict[str, Row]:
    """The rows that describe model and source, where there are any."""
    found: dict[str, Row] = {}
    for name in _META:
        path = folder / f"{name}.jsonl" if folder is not None else None
        if path is None or not path.is_file():
            continue
        for where, row in files.json_rows(path, longest=_LONGEST_META):
            expected = {"model": model, "source": layer}.get(name)
            if expected is not None and row.get("id") not in (None, expected):
                raise where.bad(f"it is of {files.said(row['id'])}, and the batches of {expected!r}")
            files.packed(row, where)
            found[name] = row
            break
    return found


def _n_tokens(source: Row) -> int | None:
    prompts, each = source.get("num_prompts"), source.get("num_tokens_in_prompt")
    if not isinstance(prompts, int) or not isinstance(each, int) or prompts <= 0 or each <= 0:
        return None
    return prompts * each


@dataclass
class _Reading:
    """The batches of one source, checked row by row and put in order of feature."""

    spool: FeatureSpool = field(default_factory=FeatureSpool)
    paths: list[Path] = field(default_factory=list)
    identity: tuple[str, str] | None = None
    hook: str | None = None
    warnings: list[str] = field(default_factory=list)
    described: bytearray = field(default_factory=bytearray)
    """Features that have a row of their own."""
    n_described: int = 0

    def take(self, path: Path) -> None:
        number = len(self.paths)
        self.paths.append(path)
        if not path.stat().st_size:  # an empty batch that is whole still has gzip's head and tail
            self.warnings.append(f"{path.parent.name}/{path.name} is empty")
        for where, row in files.json_rows(path):
            self._check(row, where)
            index = files.feature_index(row, "index", where)
            kind, body = self._body(row, index, where)
            self.spool.add(index, kind, number, where.row or 0, files.packed(body, where))

    def said(self) -> Iterator[str]:
        yield from self.warnings
        n_rows, n_features = self.n_described, sum(self.described)
        if n_rows > n_features:
            yield f"{n_rows - n_features:,} rows of features are repeated"
        if n_features and n_features < self.spool.n_features:
            missing = self.spool.n_features - n_features
            yield f"{missing:,} of {self.spool.n_features:,} features have no row, so nothing is known of their figures"

    def _check(self, row: Row, where: Where) -> None:
        model, layer = files.string(row, "modelId", where), files.string(row, "layer", where)
        if not model or not layer:
            raise where.bad("no modelId or no layer")
        self.identity = self.identity or (model, layer)
        if self.identity != (model, layer):
            raise where.bad(f"a row of {model}/{layer} among those of {'/'.join(self.identity)}")

    def _body(self, row: Row, index: int, where: Where) -> tuple[int, Row]:
        """What is kept of a row: checked, and without what is the same in each."""
        if "explanationId" in row:
            return SCORE, {"label": files.string(row, "explanationId", where), **_score(row, where)}
        if "description" in row:
            return LABEL, _label(row, where)
        if "tokens" in row:
            return EXAMPLE, _example(row, where)
        self.described.extend(bytes(max(0, index + 1 - len(self.described))))
        self.described[index] = 1
        self.n_described += 1
        self.hook = self.hook or files.string(row, "hookName", where) or None
        return FEATURE, _feature(row, where)


def _feature(row: Row, where: Where) -> Row:
    return {
        "density": files.number(row, "frac_nonzero", where),
        "max": files.number(row, "maxActApprox", where),
        "promoted": files.weights(row, "pos_str", "pos_values", where),
        "suppressed": files.weights(row, "neg_str", "neg_values", where),
        "vector": files.numbers(row, "vector", where) or None,
        "extra": {name: value for name, value in row.items() if name not in _OWN and value not in (None, [], "")},
    }


def _example(row: Row, where: Where) -> Row:
    tokens, values = files.activated(row, "tokens", "values", where)
    fires = [place for place, value in enumerate(values) if value]
    return {
        "tokens": tokens,
        "at": fires,
        "values": [values[place] for place in fires],
        "source": files.string(row, "dataSource", where) or None,
        "extra": {name: row[name] for name in _EXAMPLE_EXTRA if row.get(name) is not None},
    }


def _label(row: Row, where: Where) -> Row:
    # `embedding`, a list or pgvector's text, is of a model that cannot be asked here, so it finds nothing.
    extra = {name: row[name] for name in _LABEL_EXTRA if row.get(name) not in (None, "")}
    for name, theirs in (("created_at", "createdAt"), ("note", "notes")):
        extra |= {name: row[theirs]} if isinstance(row.get(theirs), str) and row[theirs] else {}
    scores = row.get("scores")
    return {
        "text": files.string(row, "description", where) or "",
        "labeler": files.string(row, "typeName", where) or "unknown",
        "model": files.string(row, "explanationModelName", where) or None,
        "scores": [_score(one, where) for one in scores if isinstance(one, dict)] if isinstance(scores, list) else [],
        "extra": extra,
    }


def _score(row: Row, where: Where) -> Row:
    text = files.string(row, "jsonDetails", where) or ""
    details: object = {}
    if len(text) > _LONGEST_DETAILS:
        details = {"left": f"{len(text):,} characters"}
    elif text:
        try:
            details = files.parsed(text.encode(), where)
        except BadInput:
            details = text
    return {
        "scorer": files.string(row, "explanationScoreTypeName", where) or "unknown",
        "judge": files.string(row, "explanationScoreModelName", where) or None,
        "value": files.number(row, "value", where),
        "details": details if isinstance(details, dict) else {"jsonDetails": details},
    }


class _Features:
    """The features of a reading, put together from their rows."""

    def __init__(self, spool: FeatureSpool, paths: Sequence[Path]) -> None:
        self._spool = spool
        self._paths = paths

    def __iter__(self) -> Iterator[PublishedFeature]:
        for index, rows in self._spool:
            yield self._put_together(index, rows)

    def _put_together(self, index: int, rows: Sequence[Spooled]) -> PublishedFeature:
        first = {row.body: row for row in reversed(rows)}  # what is repeated word for word is there once
        of: dict[int, list[tuple[Spooled, Row]]] = {kind: [] for kind in range(4)}
        for row in rows:
            if first[row.body] is row:
                of[row.kind].append((row, json.loads(row.body)))
        if len(of[FEATURE]) > 1:
            one, other = (self._where(row) for row, _ in of[FEATURE][:2])
            raise other.bad(f"feature {index} again, and otherwise than in {one}")
        said: Row = of[FEATURE][0][1] if of[FEATURE] else {}
        return PublishedFeature(
            index=index,
            density=said.get("density"),
            max_activation=said.get("max"),
            promoted=tuple((text, value) for text, value in said.get("promoted", ())),
            suppressed=tuple((text, value) for text, value in said.get("suppressed", ())),
            examples=tuple(sorted(map(_made_example, (body for _, body in of[EXAMPLE])), key=_strongest)),
            labels=self._labels(of[LABEL], of[SCORE]),
            vector=None if said.get("vector") is None else tuple(said["vector"]),
            extra=said.get("extra", {}),
        )

    def _labels(
        self, labels: Iterable[tuple[Spooled, Row]], scores: Iterable[tuple[Spooled, Row]]
    ) -> tuple[PublishedLabel, ...]:
        rows = sorted((body for _, body in labels), key=lambda body: json.dumps(body, sort_keys=True))
        by_id = {body["extra"].get("id"): body for body in reversed(rows)}
        for row, score in scores:
            owner = by_id.get(score.pop("label"))
            if owner is None:
                raise self._where(row).bad("a score of an explanation that is not there")
            owner["scores"].append(score)
        return tuple(_made_label(body) for body in rows)

    def _where(self, row: Spooled) -> Where:
        return Where(self._paths[row.file], row.row)


def _strongest(example: PublishedExample) -> tuple[float, tuple[str, ...]]:
    return -max(example.activations, default=0.0), example.tokens


def _made_example(body: Row) -> PublishedExample:
    activations = [0.0] * len(body["tokens"])
    for place, value in zip(body["at"], body["values"], strict=True):
        activations[place] = value
    return PublishedExample(tuple(body["tokens"]), tuple(activations), body["source"], body["extra"])


def _made_label(body: Row) -> PublishedLabel:
    scores = sorted(body["scores"], key=lambda score: json.dumps(score, sort_keys=True))
    return PublishedLabel(
        text=body["text"],
        labeler=body["labeler"],
        model=body["model"],
        scores=tuple(_made_score(score) for score in scores),
        extra=body["extra"],
    )


def _made_score(body: Row) -> PublishedScore:
    details = dict(body["details"])
    counts = {name: details.pop(name) for name in ("n", "failed") if type(details.get(name)) is int}
    baseline = details.pop("baseline") if type(details.get("baseline")) in (int, float) else None
    value = math.nan if body["value"] is None else body["value"]
    return PublishedScore(body["scorer"], value, **counts, baseline=baseline, judge=body["judge"], details=details)
