"""JSON lines, one document a line: a file, gzipped or not, a folder or a glob."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from featuredb.corpus import CorpusOptions, Document
from featuredb.corpus_files import source_files
from featuredb.errors import BadInput


class JsonLines:
    """`jsonl:PATH`: the text in one field (`text`, or --column) of each line's object; nulls are passed over."""

    name = "jsonl.v1"
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

    def documents(self, source: str, options: CorpusOptions) -> Iterator[Document]:
        column = options.column or "text"
        for file in source_files(source, self.suffixes):
            for number, line in _lines(file.path):
                try:
                    text = _text(line, column)
                except _BadRow as error:
                    reason = f"{file.path}:{number}: {error}"
                    if not options.skip_bad_rows:
                        otherwise = "mend the line, or pass over bad rows with --skip-bad-rows"
                        raise BadInput(reason, hint=error.hint or otherwise) from error
                    options.on_skip(reason)
                    continue
                if text is None:
                    options.on_skip(f"{file.path}:{number}: {column!r} is null")
                    continue
                yield Document(f"{file.name}:{number}", text)


class _BadRow(Exception):
    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1. A file that breaks off is an error even where bad rows are skipped."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path}: broken gzip after line {number}: {error}") from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _text(line: bytes, column: str) -> str | None:
    try:
        row = json.loads(line.rstrip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _BadRow(f"byte {error.object[error.start]:#04x} at offset {error.start} is not utf-8") from error
    except json.JSONDecodeError as error:
        raise _BadRow(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise _BadRow("not readable: nested too deep") from error
    if not isinstance(row, dict):
        raise _BadRow(f"a JSON {_kind(row)}, not an object", hint='each line is like {"text": "..."}')
    if column not in row:
        raise _BadRow(f"no {column!r}", hint=f"it has {', '.join(map(repr, sorted(row))) or 'no key'}")
    text = row[column]
    if text is not None and not isinstance(text, str):
        raise _BadRow(f"{column!r} is a JSON {_kind(text)}, not a string")
    if text is not None and not _encodable(text):
        raise _BadRow(f"{column!r} holds half a surrogate pair")
    return text


def _encodable(text: str) -> bool:
    # JSON may escape half of a UTF-16 pair; no tokenizer takes it.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "array", dict: "object", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
