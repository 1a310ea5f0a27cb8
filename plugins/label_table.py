"""Tables of labels, read and written: CSV, JSON lines or Parquet, with a row for each label or each score of one."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuredb.errors import BadInput, FeatureDBError, NotFound
from featuredb.labels import published_files as files
from featuredb.labels.feature_spool import FeatureSpool, Spooled
from featuredb.labels.publication import ExportRequest, Publication, PublishedFeature, PublishedLabel, PublishedScore
from featuredb.labels.published_files import Row, Where
from featuredb.labels.table import FROM_FILE, checked_text

if TYPE_CHECKING:
    import pyarrow as pa

PUBLISHER = "file"
LABEL = ("feature", "text", "labeler", "author", "note", "model", "created_at", "predicate", "provenance")
SCORE = ("scorer", "score", "low", "high", "n", "failed", "baseline", "judge", "details")
COLUMNS = (*LABEL, *SCORE)
_NUMBERS = ("score", "low", "high", "baseline")
_COUNTS = ("n", "failed")
_OBJECTS = ("predicate", "provenance", "details")
_SHORT = ("labeler", "author", "note", "model", "scorer", "judge")
_TOGETHER = 1024
_BATCH_ROWS = 256

Rows = Iterator[tuple[Where, Row]]


class LabelTable:
    """Rows of feature and text, and more: labeler, author, note, model, created_at, predicate, scorer, score, n."""

    name = "label-table.v1"

    def recognises(self, source: Path) -> bool:
        if not source.is_file() or _reader(source) is None:
            return False
        try:
            _, row = next(_reading(source), (None, {}))
        except FeatureDBError:
            return False
        return {"feature", "text"} <= row.keys()

    def read(self, source: Path) -> Publication:
        if not source.exists():
            raise NotFound(f"no file at {source}")
        spool, names, unknown = FeatureSpool(), set(), set()
        for where, row in _reading(source):
            unknown |= row.keys() - set(COLUMNS)
            name, index = _feature(row, where)
            names.add(name)
            if len(names) > 1:
                raise where.bad(f"a label of {_shown(name)} among those of {_shown(min(names - {name}))}")
            spool.add(index, 0, 0, where.row or 0, files.packed(_body(row, where), where))
        if not names:
            raise BadInput(f"{source} holds no labels", hint='write rows of feature and text, such as 12,"capitals"')
        (name,) = names
        listed = ", ".join(sorted(unknown))
        return Publication(
            name=files.dictionary_name(name or source.stem),
            publisher=PUBLISHER,
            model="",
            hook=None,
            n_features=spool.n_features,
            features=_Features(spool, source),
            extra={"dictionary": name} if name else {},
            warnings=(f"columns that mean nothing here: {listed}",) if unknown else (),
        )


class _Exporter:
    name: str

    def write(self, request: ExportRequest, folder: Path) -> int:
        from featuredb.labels.gather import Gathered

        with Gathered(ExportRequest(request.db, request.dictionary, 0, labels_only=True), PUBLISHER) as gathered:
            counted: set[int] = set()

            def rows() -> Iterator[Row]:
                for start in range(0, gathered.n_features, _TOGETHER):
                    found = gathered.labels(range(start, min(start + _TOGETHER, gathered.n_features)))
                    counted.update(found)
                    for index, labels in found.items():
                        for label in labels:
                            yield from _label_rows(f"{gathered.name}/{index}", label)

            self.write_rows(rows(), folder)
            return len(counted)

    def write_rows(self, rows: Iterable[Row], folder: Path) -> None:
        raise NotImplementedError


class LabelCsv(_Exporter):
    """labels.csv: a row for each score of each label, or for a label without any."""

    name = "csv.v1"

    def write_rows(self, rows: Iterable[Row], folder: Path) -> None:
        with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            for row in rows:
                writer.writerow({name: _cell(value) for name, value in row.items()})


class LabelJsonLines(_Exporter):
    """labels.jsonl: a row for each score of each label, or for a label without any."""

    name = "jsonl.v1"

    def write_rows(self, rows: Iterable[Row], folder: Path) -> None:
        with (folder / "labels.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


class LabelParquet(_Exporter):
    """labels.parquet: a row for each score of each label, or for a label without any."""

    name = "parquet.v1"

    def write_rows(self, rows: Iterable[Row], folder: Path) -> None:
        import itertools

        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = dict.fromkeys(_NUMBERS, pa.float64()) | dict.fromkeys(_COUNTS, pa.int64())
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
        items = iter(rows)
        with pq.ParquetWriter(folder / "labels.parquet", schema) as writer:
            while batch := list(itertools.islice(items, 4096)):
                cells = [{name: _text(row.get(name)) for name in COLUMNS} for row in batch]
                writer.write_table(pa.Table.from_pylist(cells, schema=schema))


def _cell(value: object) -> object:
    return "" if value is None else _text(value)


def _text(value: object) -> object:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict) else value


def _label_rows(feature: str, label: PublishedLabel) -> Iterator[Row]:
    extra = label.extra
    row: Row = {"feature": feature, "text": label.text, "labeler": label.labeler, "author": label.author}
    row |= {"note": extra.get("note"), "model": label.model, "created_at": extra.get("created_at")}
    row |= {"predicate": extra.get("predicate"), "provenance": extra.get("provenance")}
    row = {name: value for name, value in row.items() if value is not None}
    for score in label.scores:
        details = dict(sorted(score.details.items()))
        figures: Row = {"scorer": score.scorer, "score": score.value if math.isfinite(score.value) else None}
        figures |= {name: details.pop(name, None) for name in ("low", "high")}
        figures |= {"n": score.n, "failed": score.failed, "baseline": score.baseline, "judge": score.judge}
        figures |= {"details": details or None}
        yield row | {name: value for name, value in figures.items() if value is not None}
    if not label.scores:
        yield row


def _reader(path: Path) -> Callable[[Path], Rows] | None:
    ending = path.name.lower().removesuffix(".gz")
    known = {".csv": _csv_rows, ".jsonl": files.json_rows, ".ndjson": files.json_rows, ".parquet": _parquet_rows}
    known[".pq"] = _parquet_rows
    return next((read for suffix, read in known.items() if ending.endswith(suffix)), None)


def _reading(path: Path) -> Rows:
    read = _reader(path)
    if read is None:
        raise BadInput(f"{path} is neither CSV, JSONL nor Parquet", hint="name it .csv, .jsonl or .parquet")
    return read(path)


def _csv_rows(path: Path) -> Rows:
    last = Where(path, 0)

    def decoded() -> Iterator[str]:
        nonlocal last
        for last, line in files.lines(path, blank=True):
            if last.row == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise last.bad("UTF-16, not UTF-8", "save it as UTF-8")
            try:
                yield line.decode("utf-8-sig" if last.row == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise last.bad(f"byte {byte:#04x} at {error.start} is not UTF-8", "save it as UTF-8") from error

    reader = csv.DictReader(decoded(), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        missing = {"feature", "text"} - set(columns)
        if missing:
            raise BadInput(f"{path} has no column {min(missing)!r}", hint="its first line must name feature and text")
        if len(set(columns)) < len(columns):
            raise BadInput(f"{path} has a column twice")
        for row in reader:
            if None in row:
                raise last.bad("more fields than columns", "quote commas")
            yield last, {name: value for name, value in row.items() if value not in (None, "")}
    except csv.Error as error:
        raise last.bad(str(error)) from error


def _parquet_rows(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        missing = {"feature", "text"} - set(table.schema_arrow.names)
        if missing:
            raise BadInput(f"{path} has no column {min(missing)!r}", hint="it needs feature and text")
        before = 0
        for batch in table.iter_batches(_BATCH_ROWS):
            for number, row in enumerate(_values(batch, path, before), before + 1):
                yield Where(path, number), {name: value for name, value in row.items() if value is not None}
            before += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter for a damaged column's name
        raise BadInput(f"{path}: not a Parquet file that can be read: {error}") from error
    except OSError as error:
        raise files.unreadable(path, error) from error


def _values(batch: pa.RecordBatch, path: Path, before: int) -> Iterator[Row]:
    for number in range(batch.num_rows):
        try:
            row = batch.slice(number, 1).to_pylist()[0]
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise Where(path, before + number + 1).bad(f"a value that cannot be read: {error}") from error
        yield {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _feature(row: Row, where: Where) -> tuple[str, int]:
    """The dictionary, "" where it is not said, and the index of a row's feature."""
    value = row.get("feature")
    name, slash, index = str(value).strip().rpartition("/") if isinstance(value, str) else ("", "", value)
    if slash and not name:
        raise where.bad(f"{files.said(value)} does not name a feature", "write an index, or dictionary/index")
    return name, files.feature_index({"feature": index}, "feature", where)


def _shown(name: str) -> str:
    return repr(name) if name else "no named dictionary"


def _body(row: Row, where: Where) -> Row:
    if not isinstance(row.get("text"), str):
        raise where.bad("no text", "each row needs feature and text")
    body: Row = {"text": _checked(row["text"], "label", where)}
    for name in _SHORT:
        if (text := files.string(row, name, where)) and text.strip():
            body[name] = _checked(text, name, where)
    for name in (*_NUMBERS, *_COUNTS):
        if (figure := _number(row, name, where)) is not None:
            body[name] = figure if name in _NUMBERS else _count(figure, name, where)
    body |= {name: found for name in _OBJECTS if (found := _object(row, name, where))}
    if moment := files.string(row, "created_at", where):
        try:
            body["created_at"] = datetime.fromisoformat(moment.strip()).isoformat()
        except ValueError as error:
            raise where.bad(f"created_at is {files.said(moment)}", "write it as 2026-01-31T12:00:00+00:00") from error
    return body


def _checked(text: str, what: str, where: Where) -> str:
    try:
        return checked_text(text, what)
    except BadInput as error:
        raise where.bad(error.message, error.hint) from error


def _number(row: Row, name: str, where: Where) -> float | None:
    value = row.get(name)
    if isinstance(value, str):
        try:
            row = {name: float(value)} if value.strip() else {}
        except ValueError:
            raise where.bad(f"{name} is {files.said(value)}, not a number") from None
    return files.number(row, name, where)


def _count(figure: float, name: str, where: Where) -> int:
    if not 0 <= figure < 2**31 or figure != int(figure):
        raise where.bad(f"{name} is {figure:g}, not a count")
    return int(figure)


def _object(row: Row, name: str, where: Where) -> Row | None:
    value = row.get(name)
    if isinstance(value, str) and value.strip():
        value = files.parsed(value.encode("utf-8", "surrogatepass"), where)
    if value is not None and value != "" and not isinstance(value, dict):
        raise where.bad(f"{name} is {files.said(value)}, not a JSON object")
    return value or None


class _Features:
    def __init__(self, spool: FeatureSpool, path: Path) -> None:
        self._spool = spool
        self._path = path

    def __iter__(self) -> Iterator[PublishedFeature]:
        for index, rows in self._spool:
            yield PublishedFeature(index=index, labels=tuple(self._labels(rows)))

    def _labels(self, rows: Sequence[Spooled]) -> Iterator[PublishedLabel]:
        """Rows that differ in their score alone are one label."""
        seen: dict[str, int] = {}
        grouped: dict[str, list[tuple[int, Row]]] = {}
        for row in rows:
            body = json.loads(row.body)
            same = json.dumps(body, sort_keys=True)
            if same in seen:
                raise Where(self._path, row.row).bad(f"the same as row {seen[same]}")
            seen[same] = row.row
            label = {name: body.get(name) for name in LABEL[1:]}
            grouped.setdefault(json.dumps(label, sort_keys=True), []).append((row.row, body))
        for found in grouped.values():
            yield self._label(found)

    def _label(self, rows: Sequence[tuple[int, Row]]) -> PublishedLabel:
        row, body = rows[0]
        extra = {name: body[name] for name in ("note", "created_at", "predicate", "provenance") if name in body}
        return PublishedLabel(
            text=body["text"],
            labeler=body.get("labeler") or FROM_FILE,
            model=body.get("model"),
            author=body.get("author"),
            scores=tuple(_score(one) for _, one in rows if "score" in one or "scorer" in one),
            extra=extra | {"file": self._path.name, "row": row},
        )


def _score(body: Mapping[str, Any]) -> PublishedScore:
    details = dict(body.get("details", {})) | {name: body[name] for name in ("low", "high") if name in body}
    return PublishedScore(
        scorer=body.get("scorer") or FROM_FILE,
        value=body.get("score", math.nan),
        n=body.get("n"),
        failed=body.get("failed"),
        baseline=body.get("baseline"),
        judge=body.get("judge"),
        details=details,
    )
