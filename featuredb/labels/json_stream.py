"""A JSON file larger than memory, read value by value: no more than one value's text is held at a time.

Rule: JSON alone; what keys mean is the plugins' business.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from featuredb.labels import published_files as files
from featuredb.labels.published_files import Where

_PIECE = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonStream:
    """The one value of a JSON file, gzipped or not. Raises BadInput where it is broken, NotFound without a file."""

    def __init__(self, path: Path) -> None:
        self.where = Where(path)
        self._pieces = self._text(path)
        self._buffer = ""
        self._at = 0

    def peek(self) -> str:
        """The next character that is no space. Raises BadInput at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                raise self.where.bad("not JSON: it ends too early", "is the file cut short?")

    def members(self, longest: str) -> Iterator[tuple[str, Any]]:
        """The keys of an object and their values; of the list under `longest`, each item under that key.

        That a list is there is said before its items, by the key with None.
        """
        self._step("{")
        first = True
        while self._goes_on("}", first):
            first = False
            key = self.value()
            if not isinstance(key, str):
                raise self.where.bad("not JSON: a key that is no text")
            self._step(":")
            if key == longest and self.peek() == "[":
                yield key, None
                yield from ((key, item) for item in self.items())
            else:
                yield key, self.value()

    def items(self) -> Iterator[Any]:
        """The items of a list."""
        self._step("[")
        first = True
        while self._goes_on("]", first):
            first = False
            yield self.value()

    def end(self) -> None:
        """Raises BadInput where anything but space is left."""
        while not self._buffer[self._at :].strip():
            self._at = len(self._buffer)
            if not self._more():
                return
        raise self.where.bad("not JSON: more after its end")

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = files.DECODER.raw_decode(self._buffer, self._at)
                # A number at the end of the text so far may go on.
                if end < len(self._buffer) or not self._more():
                    break
            except (ValueError, RecursionError):
                if not self._doubled():
                    files.parsed(self._buffer[self._at :].encode("utf-8", "surrogatepass"), self.where)
                    raise self.where.bad("not JSON") from None
        text = self._buffer[self._at : end]
        self._at = end
        return files.fit(value) if files.needs_fitting(text) else value

    def _goes_on(self, closing: str, first: bool) -> bool:
        """Whether another item follows; steps over the comma before it, or over the end."""
        if self.peek() == closing:
            self._at += 1
            return False
        if not first:
            self._step(",")
        return True

    def _step(self, expected: str) -> None:
        if self.peek() != expected:
            found = self._buffer[self._at]
            raise self.where.bad(f"not JSON: {files.said(found)} where {expected!r} is due")
        self._at += 1

    def _doubled(self) -> bool:
        """Takes in as much text again, so that a long value is not tried for each piece of it; False at the end."""
        wanted = 2 * (len(self._buffer) - self._at)
        grown = False
        while len(self._buffer) - self._at < wanted and self._more():
            grown = True
        return grown

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        if len(self._buffer) > files.MAX_ROW + _PIECE:
            raise self.where.bad(f"a value of more than {files.MAX_ROW >> 20} MB")
        return True

    def _text(self, path: Path) -> Iterator[str]:
        try:
            with files.opened(path) as file:
                yield from self._decoded(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self.where.bad(f"broken gzip: {error}", "fetch the file again") from error
        except OSError as error:
            raise files.unreadable(path, error) from error
        except UnicodeDecodeError as error:
            raise self.where.bad(f"byte {error.object[error.start]:#04x} is not UTF-8", "save it as UTF-8") from error

    @staticmethod
    def _decoded(file: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        while piece := file.read(_PIECE):
            yield decoder.decode(piece)
        yield decoder.decode(b"", True)


def first_text(path: Path, length: int = 4096) -> str:
    """The beginning of a file, unpacked where it is gzipped; empty where it cannot be read."""
    try:
        with files.opened(path) as file:
            return file.read(length).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return ""
