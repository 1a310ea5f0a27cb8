"""Reading what strangers wrote: rows and values of JSON files, bounded, checked, and named by file and row when bad.

Rule: nothing here knows any publisher's format; what a row means is the plugins' business.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from featuredb.errors import BadInput, NotFound

MAX_ROW = 64 * 2**20
"""Bytes in the longest row, or the longest file of one value, once unpacked."""

MAX_INDEX = 2**26
"""Features in the largest dictionary; a larger index is damage, and would fill the disk with empty rows."""

MAX_TOKENS = 2**16 - 1
"""Tokens in the longest example: a segment counts positions in 16 bits."""

LARGEST = 3.4028234663852886e38
"""The largest float32."""

_GZIP = b"\x1f\x8b"
_PIECE = 2**20
# What JSON can say and text cannot hold: NUL, and halves of UTF-16 pairs.
_UNFIT = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Where:
    """A row of a file, as errors name it."""

    path: Path
    row: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.row is None else f"{self.path}, row {self.row}"

    def bad(self, reason: str, hint: str | None = None) -> BadInput:
        return BadInput(f"{self}: {reason}", hint=hint)


Row = dict[str, Any]


def json_rows(path: Path, *, longest: int = MAX_ROW) -> Iterator[tuple[Where, Row]]:
    """Each line's object, with the line's number from 1; gzipped or not, whatever the file is called.

    Strings come without NULs, and with U+FFFD for half a surrogate pair. Blank lines are passed over.
    Raises NotFound where there is no file; BadInput for a broken one, a line that is no object, or one of more than
    `longest` bytes.
    """
    for where, line in lines(path, longest=longest):
        value = parsed(line, where)
        if not isinstance(value, dict):
            raise where.bad("not a JSON object", 'each line is one object, such as {"index": "12"}')
        yield where, value


def lines(path: Path, *, longest: int = MAX_ROW, blank: bool = False) -> Iterator[tuple[Where, bytes]]:
    """The lines of a file, gzipped or not, none longer than `longest` bytes; blank ones too where they are wanted."""
    number = 0
    try:
        with opened(path) as file:
            while line := file.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    raise Where(path, number).bad(f"longer than {longest >> 20} MB", "is it a file of another kind?")
                if blank or line.strip():
                    yield Where(path, number), line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path}: broken gzip after row {number}: {error}", hint="fetch the file again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    """A file's bytes, unpacked where it is gzipped. Raises OSError."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")


def json_file(path: Path, *, longest: int = MAX_ROW) -> Any:
    """The one JSON value of a file, gzipped or not. Raises NotFound, BadInput."""
    return parsed(whole(path, longest=longest), Where(path))


def whole(path: Path, *, longest: int = MAX_ROW) -> bytes:
    """A file's bytes, unpacked, at most `longest` of them. Raises NotFound, BadInput."""
    pieces, size = [], 0
    try:
        with opened(path) as file:
            while piece := file.read(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > longest:
                    raise BadInput(f"{path}: longer than {longest >> 20} MB", hint="is it a file of another kind?")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path}: broken gzip: {error}", hint="fetch the file again") from error
    except OSError as error:
        raise unreadable(path, error) from error
    return b"".join(pieces)


def unreadable(path: Path, error: OSError) -> BadInput | NotFound:
    """What the system's refusal to read a file means."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"no file at {path}")
    return BadInput(f"{path} cannot be read: {error.strerror or error}")


def parsed(text: bytes, where: Where) -> Any:
    """A JSON value, its strings fit to be kept. Raises BadInput."""
    try:
        decoded = text.decode("utf-8-sig")
        value = json.loads(decoded, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8"
        raise where.bad(f"byte {error.object[error.start]:#04x} at {error.start} is not UTF-8", hint) from error
    except json.JSONDecodeError as error:
        raise where.bad(f"not JSON: {error.msg} at character {error.pos + 1}", "is the file cut short?") from error
    except RecursionError as error:
        raise where.bad("nested too deep") from error
    except ValueError as error:
        raise where.bad(f"not readable: {error}") from error
    return fit(value) if needs_fitting(decoded) else value


def packed(value: Any, where: Where) -> bytes:
    """A value as JSON, always in the same words. Raises BadInput for a number that JSON cannot say, such as 1e999."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()
    except ValueError as error:
        raise where.bad("it holds a number that is not finite") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number in JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse)
"""Reads JSON as `parsed` does."""


def needs_fitting(text: str) -> bool:
    """Whether the JSON text of a value may hold what `fit` takes out.

    Almost none does, and looking at each string of a value takes longer than parsing it.
    """
    return "\\u0000" in text or "\\ud" in text or "\\uD" in text


def fit(value: Any) -> Any:
    """The value with its strings cleared of NULs, and of halves of UTF-16 pairs, which become U+FFFD."""
    if isinstance(value, str):
        return _UNFIT.sub(lambda found: "" if found[0] == "\0" else "\ufffd", value) if _UNFIT.search(value) else value
    if isinstance(value, list):
        return [fit(item) for item in value]
    if isinstance(value, dict):
        return {fit(key): fit(item) for key, item in value.items()}
    return value


def feature_index(row: Mapping[str, Any], key: str, where: Where) -> int:
    """The feature a row is of, written as a number or as text. Raises BadInput."""
    value = row.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise where.bad(f"{key} is {said(value)}, not a feature's index")
    if value >= MAX_INDEX:
        raise where.bad(f"{key} is {value:,}: no dictionary has so many features")
    return value


def number(row: Mapping[str, Any], key: str, where: Where) -> float | None:
    """A finite number, or None where it is missing or null. Raises BadInput."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise where.bad(f"{key} is {said(value)}, not a number")
    return float(value)


def numbers(row: Mapping[str, Any], key: str, where: Where) -> list[float]:
    """A list of finite numbers; empty where it is missing or null. Raises BadInput."""
    values = row.get(key)
    if values is None:
        return []
    if not isinstance(values, list) or not {type(value) for value in values} <= {int, float}:
        raise where.bad(f"{key} is not a list of numbers")
    if not all(map(_finite, values)):
        raise where.bad(f"{key} holds a number that is not finite")
    return [float(value) for value in values]


def string(row: Mapping[str, Any], key: str, where: Where) -> str | None:
    """A text, or None where it is missing or null. Raises BadInput."""
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise where.bad(f"{key} is {said(value)}, not text")
    return value


def strings(row: Mapping[str, Any], key: str, where: Where) -> list[str]:
    """A list of texts; empty where it is missing or null. Raises BadInput."""
    values = row.get(key)
    if values is None:
        return []
    if not isinstance(values, list) or not {type(value) for value in values} <= {str}:
        raise where.bad(f"{key} is not a list of texts")
    return values


def weights(row: Mapping[str, Any], names: str, values: str, where: Where) -> tuple[tuple[str, float], ...]:
    """Tokens and their figures, from two lists of one length. Raises BadInput."""
    tokens, figures = strings(row, names, where), numbers(row, values, where)
    if len(tokens) != len(figures):
        raise where.bad(f"{len(tokens)} {names} and {len(figures)} {values}")
    return tuple(zip(tokens, figures, strict=True))


def activated(row: Mapping[str, Any], tokens: str, values: str, where: Where) -> tuple[list[str], list[float]]:
    """The tokens of an example and an activation for each. Raises BadInput."""
    texts, activations = strings(row, tokens, where), numbers(row, values, where)
    if len(texts) != len(activations):
        raise where.bad(f"{len(texts)} {tokens} and {len(activations)} {values}")
    if len(texts) > MAX_TOKENS:
        raise where.bad(f"an example of {len(texts):,} tokens", hint=f"at most {MAX_TOKENS:,} are kept")
    return texts, activations


def said(value: object) -> str:
    """A value as an error quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _finite(value: float) -> bool:
    # Activations are kept as float32, and JSON may say any number; NaN is in no range.
    return -LARGEST <= value <= LARGEST


def dictionary_name(*parts: str | int | None) -> str:
    """A name for a dictionary from what its publisher calls it: letters, digits, dots, dashes and underscores."""
    joined = "-".join(str(part) for part in parts if part not in (None, ""))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", joined).strip("-._")[:128].rstrip("-._")
    return name or "published"


def ranges(found: list[int]) -> str:
    """Sorted numbers as people write them: 3, 7-9."""
    parts: list[list[int]] = []
    for one in found:
        if parts and one == parts[-1][-1] + 1:
            parts[-1][1:] = [one]
        else:
            parts.append([one])
    return ", ".join("-".join(map(str, part)) for part in parts)
