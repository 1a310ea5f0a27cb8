"""Parquet files, one document a row: a file, a folder or a glob, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.corpus import CorpusOptions, Document
from featuredb.corpus_files import SourceFile, source_files
from featuredb.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 256


class Parquet:
    """`parquet:PATH`: the text in one column (`text`, or --column) of each row; nulls are passed over."""

    name = "parquet.v1"
    suffixes: tuple[str, ...] = (".parquet", ".pq")

    def documents(self, source: str, options: CorpusOptions) -> Iterator[Document]:
        column = options.column or "text"
        for file in source_files(source, self.suffixes):
            try:
                table = _open(file, column)
            except BadInput as error:
                if not options.skip_bad_rows:
                    raise
                options.on_skip(error.message)
                continue
            yield from _rows(file, table, column, options)


def _open(file: SourceFile, column: str) -> pq.ParquetFile:
    """The opened file; BadInput where it is no Parquet, or its column is missing or holds no text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file.path)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file.path}: not a Parquet file: {error}") from error
    except OSError as error:
        raise BadInput(f"{file.path}: {error.strerror or error}") from error
    schema = table.schema_arrow
    if column not in schema.names:
        raise BadInput(f"{file.path}: no column {column!r}", hint=f"it has {', '.join(map(repr, schema.names))}")
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise BadInput(f"{file.path}: column {column!r} is {kind}, not text")
    return table


def _rows(file: SourceFile, table: pq.ParquetFile, column: str, options: CorpusOptions) -> Iterator[Document]:
    for row, value in enumerate(_values(file, table, column)):
        try:
            text = value.as_py()
        except UnicodeDecodeError as error:
            reason = f"{file.path}: row {row}: {column!r} is not utf-8 at byte {error.start}"
            if not options.skip_bad_rows:
                raise BadInput(reason) from error
            options.on_skip(reason)
            continue
        if text is None:
            options.on_skip(f"{file.path}: row {row}: {column!r} is null")
        else:
            yield Document(f"{file.name}:{row}", text)


def _values(file: SourceFile, table: pq.ParquetFile, column: str) -> Iterator[pa.Scalar]:
    import pyarrow as pa

    try:
        for batch in table.iter_batches(BATCH_ROWS, columns=[column]):
            yield from batch.column(0)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file.path}: cannot be read to its end: {error}") from error
