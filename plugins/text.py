"""Text files, one document each: a file, a folder or a glob."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from featuredb.corpus import CorpusOptions, Document
from featuredb.corpus_files import source_files
from featuredb.errors import BadInput


class TextFiles:
    """`text:PATH`: each UTF-8 file of a file, folder (every file in it, hidden ones left out) or glob."""

    name = "text.v1"
    suffixes: tuple[str, ...] = (".txt", ".text", ".md", ".rst")

    def documents(self, source: str, options: CorpusOptions) -> Iterator[Document]:
        for file in source_files(source):
            try:
                text = _read(file.path)
            except BadInput as error:
                if not options.skip_bad_rows:
                    raise
                options.on_skip(error.message)
                continue
            yield Document(file.name, text)


def _read(path: Path) -> str:
    """The whole text, line endings as they are and a byte order mark left out."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    n_mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    try:
        return data[n_mark:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = n_mark + error.start
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise BadInput(
            f"{path}: byte {data[offset]:#04x} at offset {offset} is not utf-8",
            hint="it looks like utf-16; convert it first" if utf16 else "convert the file, or pass over bad files",
        ) from error
