"""Corpus specs: how one finds its plugin, and what a spec that finds none, or no text, is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuredb.corpora import choose_plugin, corpus_name, open_corpus
from featuredb.corpus import CorpusOptions, Document
from featuredb.errors import BadInput, NotFound


def read(spec: str | Path, options: CorpusOptions | None = None) -> list[tuple[str, str]]:
    return [(document.name, document.text) for document in open_corpus(str(spec), options)]


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def write_table(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


@pytest.mark.parametrize(
    ("spec", "plugin", "source"),
    [
        ("text:a b/*.txt", "text.v1", "a b/*.txt"),
        ("jsonl.v1:rows", "jsonl.v1", "rows"),
        ("huggingface:owner/name@config", "huggingface.v1", "owner/name@config"),
        ("python-docs", "python-docs.v1", ""),
        ("python-docs:tests", "python-docs.v1", "tests"),
    ],
)
def test_spec_names_its_plugin(spec: str, plugin: str, source: str) -> None:
    chosen, given = choose_plugin(spec)
    assert (chosen.name, given) == (plugin, source)


@pytest.mark.parametrize(
    ("name", "plugin"),
    [("a.txt", "text.v1"), ("A.JSONL", "jsonl.v1"), ("a.jsonl.gz", "jsonl.v1"), ("a:b.parquet", "parquet.v1")],
)
def test_bare_path_is_read_by_its_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, plugin: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, "x")
    assert choose_plugin(name)[0].name == plugin
    assert choose_plugin(str(tmp_path))[0].name == plugin
    assert choose_plugin(f"{tmp_path}/*")[0].name == plugin


def test_folder_called_like_a_plugin_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "text" / "a.txt", "x")
    assert read("text") == [("a.txt", "x\n")]


def test_unknown_scheme_suggests_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        open_corpus("jsonlines:rows")
    assert caught.value.message == "no corpus plugin called 'jsonlines'"
    assert caught.value.hint == "did you mean 'jsonl'?"


def test_missing_path_suggests_its_siblings(tmp_path: Path) -> None:
    write(tmp_path / "books.jsonl", {"text": "x"})
    for spec in (f"{tmp_path}/book.jsonl", f"jsonl:{tmp_path}/book.jsonl"):
        with pytest.raises(NotFound) as caught:
            open_corpus(spec)
        assert caught.value.message == f"no file or folder '{tmp_path}/book.jsonl'"
        assert caught.value.hint == "did you mean 'books.jsonl'?"


def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_corpus(f"{tmp_path}/no/such.txt")
    assert caught.value.hint == f"there is no folder '{tmp_path}/no' either"


def test_bare_id_of_the_hub_is_pointed_to_its_plugin() -> None:
    with pytest.raises(NotFound) as caught:
        open_corpus("NeelNanda/pile-10k")
    assert caught.value.hint == "a data set on the Hub is huggingface:NeelNanda/pile-10k"


def test_unknown_suffix_lists_those_known(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        open_corpus(str(write(tmp_path / "a.dat", "x")))
    assert caught.value.message == f"cannot tell how to read '{tmp_path}/a.dat'"
    assert ".jsonl" in str(caught.value.hint)


def test_folder_of_two_kinds_asks_which(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "x"})
    write_table(tmp_path / "b.parquet", text=["x"])
    with pytest.raises(BadInput, match="more than one plugin reads .*: jsonl, parquet") as caught:
        open_corpus(str(tmp_path))
    assert caught.value.hint == f"name one: jsonl:{tmp_path} or parquet:{tmp_path}"
    assert read(f"jsonl:{tmp_path}") == [("a.jsonl:1", "x")]


def test_folder_and_glob_without_files_are_not_found(tmp_path: Path) -> None:
    for spec in (f"text:{tmp_path}", f"jsonl:{tmp_path}", f"{tmp_path}/*.txt"):
        with pytest.raises(NotFound):
            open_corpus(spec)


@pytest.mark.parametrize(
    ("lines", "hint"),
    [([], "it gave no document"), ([{"text": ""}, {"text": " \n"}], "its 2 documents are blank")],
)
def test_corpus_without_text_is_bad_input(tmp_path: Path, lines: list[object], hint: str) -> None:
    rows = write(tmp_path / "data.jsonl", *lines)
    with pytest.raises(BadInput) as caught:
        list(open_corpus(str(rows)))
    assert (caught.value.message, caught.value.hint) == (f"corpus '{rows}' holds no text", hint)


def test_blank_documents_beside_others_are_kept(tmp_path: Path) -> None:
    rows = write(tmp_path / "data.jsonl", {"text": ""}, {"text": "a"})
    assert read(rows) == [("data.jsonl:1", ""), ("data.jsonl:2", "a")]


def test_spec_without_a_source_is_bad_input() -> None:
    for spec in ("text:", "jsonl:", "parquet:", "huggingface:"):
        with pytest.raises(BadInput):
            open_corpus(spec)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("jsonl:/data/rows.jsonl", "rows.jsonl"),
        ("/data/rows.jsonl", "rows.jsonl"),
        ("text:/data/books/*.txt", "books"),
        ("text:*.txt", "text"),
        ("text:books", "text:books"),
        ("huggingface:NeelNanda/pile-10k", "pile-10k"),
        ("python-docs", "python-docs"),
        ("python-docs:tests", "python-docs:tests"),
    ],
)
def test_corpus_name_is_short(spec: str, name: str) -> None:
    assert corpus_name(spec) == name


def test_documents_are_read_one_by_one(tmp_path: Path) -> None:
    rows = write(tmp_path / "data.jsonl", {"text": "a"}, {"text": "b"}, "broken")
    documents: Iterator[Document] = open_corpus(str(rows))
    assert [next(documents).text, next(documents).text] == ["a", "b"]
    with pytest.raises(BadInput):
        next(documents)
