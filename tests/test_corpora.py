"""Corpus plugins: the contract each keeps, and what each says of bad input."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuredb.corpora import open_corpus
from featuredb.corpus import CorpusOptions
from featuredb.errors import BadInput, PluginFailed
from featuredb.plugins import Registry
from featuredb.testing.corpora import CorpusContract


def read(spec: str | Path, options: CorpusOptions | None = None) -> list[tuple[str, str]]:
    return [(document.name, document.text) for document in open_corpus(str(spec), options)]


def skipping(told: list[str]) -> CorpusOptions:
    return CorpusOptions(skip_bad_rows=True, on_skip=told.append)


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def write_table(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


class TestTextFiles(CorpusContract):
    plugin_name = "text"

    def make_source(self, folder: Path) -> str:
        write(folder / "b.txt", "second")
        write(folder / "a" / "z.md", "first")
        return str(folder)


class TestJsonLines(CorpusContract):
    plugin_name = "jsonl"

    def make_source(self, folder: Path) -> str:
        write(folder / "b.jsonl", {"text": "three"})
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
        return str(folder)


class TestParquet(CorpusContract):
    plugin_name = "parquet"

    def make_source(self, folder: Path) -> str:
        write_table(folder / "a.parquet", text=["one", "two", "three"])
        return str(write_table(folder / "b.parquet", text=["four"]).parent / "*.parquet")


class TestHuggingFace(CorpusContract):
    plugin_name = "huggingface"

    def make_source(self, folder: Path) -> str:
        write(folder / "train.jsonl", {"text": "one"}, {"text": "two"})
        return str(folder)


class TestPythonDocs(CorpusContract):
    plugin_name = "python-docs"

    def make_source(self, folder: Path) -> str:
        return ""


# Text files


def test_text_folder_gives_every_file_in_order_of_path(tmp_path: Path) -> None:
    write(tmp_path / "b.py", "b")
    write(tmp_path / "a" / "c.txt", "c")
    write(tmp_path / ".git" / "config", "hidden")
    assert read(f"text:{tmp_path}") == [("a/c.txt", "c\n"), ("b.py", "b\n")]


def test_text_glob_names_files_from_its_last_fixed_folder(tmp_path: Path) -> None:
    write(tmp_path / "x" / "deep" / "2.txt", "two")
    write(tmp_path / "x" / "1.txt", "one")
    write(tmp_path / "x" / "1.py", "no")
    assert read(f"text:{tmp_path}/x/**/*.txt") == [("1.txt", "one\n"), ("deep/2.txt", "two\n")]


def test_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a[1].txt", "bracket")) == [("a[1].txt", "bracket\n")]


def test_text_leaves_out_the_byte_order_mark_and_keeps_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + "é\r\n".encode())
    assert read(tmp_path / "a.txt") == [("a.txt", "é\r\n")]


@pytest.mark.parametrize(("before", "offset"), [(b"ok", 2), (codecs.BOM_UTF8 + b"ok", 5)])
def test_undecodable_text_names_file_and_byte(tmp_path: Path, before: bytes, offset: int) -> None:
    (tmp_path / "a.txt").write_bytes(before + b"\xff rest")
    with pytest.raises(BadInput) as caught:
        read(tmp_path / "a.txt")
    assert caught.value.message == f"{tmp_path}/a.txt: byte 0xff at offset {offset} is not utf-8"


def test_undecodable_text_is_counted_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    write(tmp_path / "b.txt", "b")
    told: list[str] = []
    assert read(tmp_path, skipping(told)) == [("b.txt", "b\n")]
    assert told == [f"{tmp_path}/a.txt: byte 0xff at offset 0 is not utf-8"]


# JSON lines


def test_jsonl_names_documents_by_line_and_passes_blank_lines(tmp_path: Path) -> None:
    rows = write(tmp_path / "data.jsonl", {"text": "one"}, "", {"text": "three", "n": 1})
    assert read(rows) == [("data.jsonl:1", "one"), ("data.jsonl:3", "three")]


def test_jsonl_reads_the_column_asked_for(tmp_path: Path) -> None:
    rows = write(tmp_path / "data.ndjson", {"body": "one"})
    assert read(rows, CorpusOptions(column="body")) == [("data.ndjson:1", "one")]


@pytest.mark.parametrize(
    ("line", "fault", "hint"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter at column 13", None),
        ("[1]", "a JSON array, not an object", 'each line is like {"text": "..."}'),
        ('{"body": 1, "a": 2}', "no 'text'", "it has 'a', 'body'"),
        ("{}", "no 'text'", "it has no key"),
        ('{"text": 7}', "'text' is a JSON number, not a string", None),
        ('{"text": ["a"]}', "'text' is a JSON array, not a string", None),
        ('{"text": "\\ud800"}', "'text' holds half a surrogate pair", None),
        ("[" * 100_000, "not readable: nested too deep", None),
    ],
)
def test_broken_jsonl_row_is_named_by_line(tmp_path: Path, line: str, fault: str, hint: str | None) -> None:
    rows = write(tmp_path / "data.jsonl", {"text": "good"}, line, {"text": "good too"})
    with pytest.raises(BadInput) as caught:
        read(rows)
    hint = hint or "mend the line, or pass over bad rows with --skip-bad-rows"
    assert (caught.value.message, caught.value.hint) == (f"{rows}:2: {fault}", hint)
    told: list[str] = []
    assert read(rows, skipping(told)) == [("data.jsonl:1", "good"), ("data.jsonl:3", "good too")]
    assert told == [f"{rows}:2: {fault}"]


def test_undecodable_jsonl_row_is_named_by_line(tmp_path: Path) -> None:
    rows = tmp_path / "data.jsonl"
    rows.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(BadInput, match=r"data\.jsonl:2: byte 0xff at offset 10 is not utf-8"):
        read(rows)


def test_jsonl_null_is_no_document_and_is_told(tmp_path: Path) -> None:
    rows = write(tmp_path / "data.jsonl", {"text": None}, {"text": "a"})
    told: list[str] = []
    assert read(rows, CorpusOptions(on_skip=told.append)) == [("data.jsonl:2", "a")]
    assert told == [f"{rows}:1: 'text' is null"]


def test_gzip_cut_short_is_bad_input(tmp_path: Path) -> None:
    rows = tmp_path / "data.jsonl.gz"
    rows.write_bytes(gzip.compress(b'{"text": "a"}\n' * 5000)[:-20])
    with pytest.raises(BadInput, match=r"data\.jsonl\.gz: broken gzip after line \d+"):
        read(rows)
    rows.write_bytes(b"plain")
    with pytest.raises(BadInput, match=r"data\.jsonl\.gz: broken gzip after line 0"):
        read(rows)


# Parquet


def test_parquet_numbers_rows_and_tells_of_nulls(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", text=["one", None, "three"], n=[1, 2, 3])
    told: list[str] = []
    assert read(table, CorpusOptions(on_skip=told.append)) == [("t.parquet:0", "one"), ("t.parquet:2", "three")]
    assert told == [f"{table}: row 1: 'text' is null"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_reads_every_kind_of_string(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"body": pa.array(["one", "two"]).cast(kind)}), tmp_path / "t.parquet")
    options = CorpusOptions(column="body")
    assert [text for _, text in read(tmp_path / "t.parquet", options)] == ["one", "two"]


def test_parquet_missing_column_lists_those_there(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", body=["a"], n=[1])
    with pytest.raises(BadInput) as caught:
        read(table)
    assert (caught.value.message, caught.value.hint) == (f"{table}: no column 'text'", "it has 'body', 'n'")


def test_parquet_column_of_numbers_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="column 'text' is int64, not text"):
        read(write_table(tmp_path / "t.parquet", text=[1, 2]))


def test_parquet_row_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff"]).buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "t.parquet")
    with pytest.raises(BadInput, match=r"t\.parquet: row 1: 'text' is not utf-8 at byte 0"):
        read(tmp_path / "t.parquet")
    told: list[str] = []
    assert read(tmp_path / "t.parquet", skipping(told)) == [("t.parquet:0", "ok")]
    assert len(told) == 1


def test_file_that_is_no_parquet_is_bad_input_or_skipped(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "no")
    write_table(tmp_path / "b.parquet", text=["b"])
    with pytest.raises(BadInput, match=r"a\.parquet: not a Parquet file"):
        read(tmp_path)
    told: list[str] = []
    assert read(tmp_path, skipping(told)) == [("b.parquet:0", "b")]
    assert len(told) == 1


# Hugging Face data sets


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def save(folder: Path, *, splits: bool) -> Path:
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict({"text": ["one", None, "three"], "n": [1, 2, 3]})
    (datasets.DatasetDict({"train": rows, "test": rows}) if splits else rows).save_to_disk(folder)
    return folder


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("splits", [False, True])
def test_folder_from_save_to_disk_is_read_by_a_bare_path(tmp_path: Path, splits: bool) -> None:
    folder = save(tmp_path / "saved", splits=splits)
    told: list[str] = []
    assert read(folder, CorpusOptions(on_skip=told.append)) == [("saved:0", "one"), ("saved:2", "three")]
    assert told == [f"{folder}: row 1: 'text' is null"]


@pytest.mark.usefixtures("offline")
def test_huggingface_split_and_column_are_checked(tmp_path: Path) -> None:
    saved = save(tmp_path / "saved", splits=True)
    files = write(tmp_path / "files" / "train.jsonl", {"text": "one"}).parent
    for folder, options, message in [
        (saved, CorpusOptions(split="dev"), "no split 'dev'"),
        (files, CorpusOptions(split="dev"), "Bad split: dev"),
        (saved, CorpusOptions(column="body"), "no column 'body'"),
        (files, CorpusOptions(column="body"), "no column 'body'"),
        (saved, CorpusOptions(column="n"), "row 0: 'n' is not text"),
    ]:
        with pytest.raises(BadInput, match=message):
            read(f"huggingface:{folder}", options)


@pytest.mark.usefixtures("offline")
def test_data_set_that_is_not_cached_says_so_offline() -> None:
    with pytest.raises(PluginFailed, match="cannot reach the Hugging Face Hub for 'nobody/nothing'") as caught:
        read("huggingface:nobody/nothing")
    assert caught.value.hint == "offline, give a folder on disk instead: huggingface:FOLDER"


@pytest.mark.usefixtures("offline")
def test_cached_data_set_is_read_offline(tmp_path: Path) -> None:
    import datasets

    write(tmp_path / "tiny" / "train.jsonl", {"text": "one"}, {"text": "two"})
    datasets.load_dataset(str(tmp_path / "tiny"))
    # The Hub's cache differs from a folder's in the owner's name alone.
    (tmp_path / "cache" / "tiny").rename(tmp_path / "cache" / "owner___tiny")
    assert read("huggingface:owner/tiny") == [("tiny:0", "one"), ("tiny:1", "two")]


# python-docs


def test_python_docs_begins_with_a_mixture_and_grows_by_the_tests() -> None:
    plugin = Registry.installed().corpus("python-docs")
    names = [document.name for document in plugin.documents("", CorpusOptions())]
    with_tests = [document.name for document in plugin.documents("tests", CorpusOptions())]
    assert names != sorted(names)
    n_topics = sum(name.startswith("topics/") for name in names)
    first = sum(name.startswith("topics/") for name in names[: len(names) // 4])
    assert n_topics / 8 < first < n_topics / 2
    # The tests come between the others and move none of them.
    assert [name for name in with_tests if name in set(names)] == names
    assert len(with_tests) > len(names)
