"""Tables of labels: every column there may be, and the row of whatever cannot be taken."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from featuredb.errors import BadInput, NotFound
from featuredb.labels.publication import Publication, PublishedLabel
from featuredb.labels.publish import import_publication
from featuredb.labels.published_files import MAX_ROW
from featuredb.plugins import LabelReader, Registry
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.store import Store
from featuredb.testing.readers import ReaderContract
from tests.small_publications import plugins
from tests.small_store import build

FULL: dict[str, Any] = {
    "feature": "alpha/3",
    "text": "capital letters",
    "labeler": "by-hand",
    "author": "ada",
    "note": "seen in 40 examples",
    "model": "a-model",
    "created_at": "2025-01-02T03:04:05+00:00",
    "predicate": {"all": ["upper"]},
    "provenance": {"prompt": "p1"},
    "scorer": "detection",
    "score": 0.75,
    "low": 0.5,
    "high": 0.9,
    "n": 40,
    "failed": 2,
    "baseline": 0.5,
    "judge": "judge-70b",
    "details": {"f1": 0.7},
}


class Csv(ReaderContract):
    plugin_name = "label-table"

    @pytest.fixture
    def registry(self) -> Registry:
        return plugins()


class TestCsv(Csv):
    def make_source(self, folder: Path) -> Path:
        return write(folder / "labels.csv", [FULL, {"feature": "alpha/5", "text": 'commas, "quoted", é'}])


class TestJsonLines(Csv):
    def make_source(self, folder: Path) -> Path:
        return write(folder / "labels.jsonl", [FULL, {"feature": "alpha/5", "text": "é"}])


class TestParquet(Csv):
    def make_source(self, folder: Path) -> Path:
        return write(folder / "labels.parquet", [FULL, {"feature": "alpha/5", "text": "é"}])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows in the form that the path's ending names, their objects as text where it has no other way."""
    cells = [{k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()} for row in rows]
    if path.suffix == ".parquet":
        names = list(dict.fromkeys(name for row in cells for name in row))
        pq.write_table(pa.table({name: [row.get(name) for row in cells] for name in names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        names = list(dict.fromkeys(name for row in cells for name in row))
        lines = [",".join(names)] + [
            ",".join('"' + str(row[name]).replace('"', '""') + '"' if name in row else "" for name in names)
            for row in cells
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def reader() -> LabelReader:
    return plugins().label_reader("label-table")


def read(path: Path) -> tuple[Publication, dict[int, tuple[PublishedLabel, ...]]]:
    publication = reader().read(path)
    return publication, {feature.index: feature.labels for feature in publication.features}


def from_text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.parquet", "labels.jsonl.gz"])
def test_every_column_is_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name.removesuffix(".gz"), [FULL])
    if name.endswith(".gz"):
        path = from_text(tmp_path / name, gzip.compress(path.read_bytes()))
    publication, labels = read(path)
    assert (publication.model, publication.extra["dictionary"], publication.warnings) == ("", "alpha", ())
    ((label,),) = labels.values()
    assert (label.text, label.labeler, label.author, label.model) == ("capital letters", "by-hand", "ada", "a-model")
    assert label.extra == {
        "note": "seen in 40 examples",
        "created_at": "2025-01-02T03:04:05+00:00",
        "predicate": {"all": ["upper"]},
        "provenance": {"prompt": "p1"},
        "file": path.name,
        "row": 2 if name == "labels.csv" else 1,
    }
    (score,) = label.scores
    assert (score.scorer, score.value, score.n, score.failed) == ("detection", 0.75, 40, 2)
    assert (score.baseline, score.judge, score.details) == (0.5, "judge-70b", {"f1": 0.7, "low": 0.5, "high": 0.9})


def test_only_feature_and_text_are_needed(tmp_path: Path) -> None:
    publication, labels = read(from_text(tmp_path / "a.csv", "\ufefftext,feature\nsmall,3\n\nlarge,12\n"))
    assert (publication.extra, publication.n_features) == ({}, 13)
    assert [(index, one.text, one.labeler, one.scores) for index, (one,) in labels.items()] == [
        (3, "small", "file.v1", ()),
        (12, "large", "file.v1", ()),
    ]


def test_rows_that_differ_in_their_score_are_one_label(tmp_path: Path) -> None:
    rows = [FULL, {"feature": "alpha/4", "text": "x"}, FULL | {"scorer": "fuzz", "score": None}]
    _, labels = read(write(tmp_path / "a.jsonl", rows))
    (label,) = labels[3]
    assert [score.scorer for score in label.scores] == ["detection", "fuzz"]
    assert math.isnan(label.scores[1].value)


def test_columns_that_mean_nothing_are_said(tmp_path: Path) -> None:
    publication, _ = read(from_text(tmp_path / "a.csv", "feature,text,colour,size\n1,a,red,3\n"))
    assert publication.warnings == ("columns that mean nothing here: colour, size",)


def test_it_goes_to_the_dictionary_that_its_rows_name(store: Store, tmp_path: Path) -> None:
    done = import_publication(store, reader().read(write(tmp_path / "a.jsonl", [FULL])))
    assert (done.dictionary, done.n_labels, done.n_scores) == ("alpha", 1, 1)
    with store.reading() as session:
        (row,) = session.scalars(select(LabelRow))
        (score,) = session.scalars(select(ScoreRow))
    assert (row.labeler, row.status, row.author, row.note) == ("file:by-hand", "proposed", "ada", "seen in 40 examples")
    assert (row.predicate, row.created_at) == ({"all": ["upper"]}, datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert row.provenance["extra"] == {"provenance": {"prompt": "p1"}, "file": "a.jsonl", "row": 1}
    assert (score.scorer, score.value, score.low, score.high, score.n) == ("file:detection", 0.75, 0.5, 0.9, 40)
    again = import_publication(store, reader().read(tmp_path / "a.jsonl"), dictionary="alpha")
    assert (again.n_labels, again.n_known, again.n_scores, again.n_scores_known) == (0, 1, 0, 1)


def test_indices_alone_need_a_dictionary(store: Store, tmp_path: Path) -> None:
    table = reader().read(from_text(tmp_path / "a.csv", "feature,text\n3,x\n"))
    with pytest.raises(BadInput, match="says of no model") as told:
        import_publication(store, table)
    assert told.value.hint == "name the dictionary that its labels belong to"
    assert import_publication(store, table, dictionary="beta").n_labels == 1


def test_an_unknown_feature_names_file_and_row_and_nothing_is_kept(store: Store, tmp_path: Path) -> None:
    table = reader().read(from_text(tmp_path / "a.csv", "feature,text\nalpha/3,x\nalpha/8,y\n"))
    with pytest.raises(NotFound, match=r"a\.csv, row 3: no feature 8 in 'alpha'"):
        import_publication(store, table)
    with store.reading() as session:
        assert session.scalar(select(LabelRow)) is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"feature,text\n1,ok\n2,\xff\xfe\n", "row 3: byte 0xff at 2 is not UTF-8"),
        ("a.csv", "feature,text\n1,x\n".encode("utf-16"), "row 1: UTF-16, not UTF-8"),
        ("a.csv", "feature,text\n1,ok\n2,é\n".encode("latin-1"), "row 3: byte 0xe9"),
        ("a.csv", b"feature,text\n1,ok\n2,a\0b\n", "row 3: (line contains NUL|the label has a control)"),
        ("a.csv", b"feature,text\n1,ok\n2," + b"x" * 100_000 + b"\n", "row 3: the label has 100,000 characters"),
        ("a.csv", b"feature,text\n1,ok\n2," + b"x" * 200_000 + b"\n", "row 3: field larger than field limit"),
        ("a.csv", b'feature,text\n1,ok\n2,"a\nb"\n', "row 4: the label has a control character"),
        ("a.csv", b"feature,text\n1,ok\n2,\x1b[31mred\n", r"row 3: the label has a control character, U\+001B"),
        ("a.csv", b"feature,text\n1,ok\n2,\n", "row 3: no text"),
        ("a.csv", b"feature,text\n1,ok\n2,  \n", "row 3: the label is empty"),
        ("a.csv", b"feature,text\n1,ok\n2,a,b\n", "row 3: more fields than columns"),
        ("a.csv", b'feature,text\n1,ok\n2,"a', "row 3: unexpected end of data"),
        ("a.csv", b"feature,text\n1,ok\n1,ok\n", "row 3: the same as row 2"),
        ("a.csv", b"feature,text\nalpha/1,ok\nbeta/1,ok\n", "row 3: a label of 'beta' among those of 'alpha'"),
        ("a.csv", b"feature,text\nalpha/1,ok\n1,ok\n", "row 3: a label of no named dictionary among"),
        ("a.csv", b"feature,text\n-1,x\n", "row 2: feature is '-1'"),
        ("a.csv", b"feature,text\n1.0,x\n", "row 2: feature is '1.0'"),
        ("a.csv", b"feature,text\n/1,x\n", "row 2: '/1' does not name a feature"),
        ("a.csv", b"feature,text,score\n1,x,high\n", "row 2: score is 'high', not a number"),
        ("a.csv", b"feature,text,score\n1,x,nan\n", "row 2: score is nan, not a number"),
        ("a.csv", b"feature,text,n\n1,x,1.5\n", "row 2: n is 1.5, not a count"),
        ("a.csv", b"feature,text,n\n1,x,1e30\n", "row 2: n is 1e\\+30, not a count"),
        ("a.csv", b"feature,text,created_at\n1,x,yesterday\n", "row 2: created_at is 'yesterday'"),
        ("a.csv", b"feature,text,predicate\n1,x,[1]\n", r"row 2: predicate is \[1\], not a JSON object"),
        ("a.csv", b"feature,text,predicate\n1,x,{\n", "row 2: not JSON"),
        ("a.csv", b"feature,text,author\n1,x,\x07\n", "row 2: the author has a control character"),
        ("a.csv", b"feature,label\n1,x\n", "no column 'text'"),
        ("a.csv", b"feature,text,text\n1,x,y\n", "a column twice"),
        ("a.csv", b"", "no column 'feature'"),
        ("a.csv", b"feature,text\n", "holds no labels"),
        ("a.jsonl", b'{"feature": 1, "text": "ok"}\n{"feature": 2', "row 2: not JSON"),
        ("a.jsonl", b'{"feature": 1, "text": "ok"}\n[1]\n', "row 2: not a JSON object"),
        ("a.jsonl", b'{"feature": 1, "text": 3}\n', "row 1: no text"),
        (
            "a.jsonl",
            b'{"feature": 1, "text": "a\\u0000\\u0001"}\n',
            r"row 1: the label has a control character, U\+0001",
        ),
        ("a.jsonl", b'{"feature": true, "text": "a"}\n', "row 1: feature is True"),
        ("a.jsonl", b'{"feature": 1, "text": "a", "labeler": 5}\n', "row 1: labeler is 5, not text"),
        ("a.jsonl", b"[" * 200_000 + b"\n", "row 1: nested too deep"),
        ("a.parquet", b"PAR1 no", "not a Parquet file"),
        ("a.txt", b"1 x", "is neither CSV, JSONL nor Parquet"),
    ],
)
def test_a_row_that_cannot_be_taken_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as told:
        read(from_text(tmp_path / name, content))
    assert str(tmp_path / name) in told.value.message


def test_parquet_of_other_types(tmp_path: Path) -> None:
    made = datetime(2025, 1, 2, tzinfo=UTC)
    table = pa.table({"feature": [1, 2], "text": ["a", "b"], "created_at": [made, None], "n": [3, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    _, labels = read(tmp_path / "a.parquet")
    assert labels[1][0].extra["created_at"] == "2025-01-02T00:00:00+00:00"
    pq.write_table(pa.table({"feature": [1], "text": [pa.scalar(b"\xff", pa.binary())]}), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match="row 1: no text"):
        read(tmp_path / "b.parquet")
    pq.write_table(pa.table({"feature": [1]}), tmp_path / "c.parquet")
    with pytest.raises(BadInput, match="no column 'text'"):
        read(tmp_path / "c.parquet")


def test_html_and_formulas_are_text_like_any_other(tmp_path: Path) -> None:
    texts = [
        "<img src=x onerror=alert(1)>",
        "=cmd|' /C calc'!A0",
        "'; drop table label; --",
        "{{7*7}}",
        "日本語 👩‍👩‍👧",
    ]
    _, labels = read(write(tmp_path / "a.jsonl", [{"feature": n, "text": text} for n, text in enumerate(texts)]))
    assert [label.text for (label,) in labels.values()] == texts


def test_a_line_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"feature,text\n1,")
        for _ in range((MAX_ROW >> 20) + 1):
            file.write(b"a" * 2**20)
    with pytest.raises(BadInput, match="row 2: longer than 64 MB"):
        read(tmp_path / "a.csv.gz")


def test_many_labels_of_many_features(store: Store, tmp_path: Path) -> None:
    rows = [{"feature": f"alpha/{n % 8}", "text": f"label {n}"} for n in range(5_000)]
    done = import_publication(store, reader().read(write(tmp_path / "a.jsonl", rows)))
    assert (done.n_labels, done.n_known) == (5_000, 0)
