"""Contrasting texts, from files or as they are typed. Text only: no model and no store here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from featuredb.errors import BadInput, NotFound, nearest

FILES = (".txt", ".jsonl")
TABLES = (".csv", ".tsv", ".json", ".parquet")
"""Kinds of file of which a line is no text."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts that have something, and texts that have not."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """The positive ones, then the negative."""
        return self.positive + self.negative

    @property
    def is_positive(self) -> tuple[bool, ...]:
        """One for each of `all`."""
        return (True,) * len(self.positive) + (False,) * len(self.negative)


def read_texts(positive: Sequence[str], negative: Sequence[str]) -> Texts:
    """The texts that some values name, in their order.

    A value that names a file is read, one text a line of .txt or one `text` field a line of .jsonl; another is a text
    itself. Raises NotFound for what looks like a path and is no file, and BadInput where a text is empty (naming file
    and line), a side has none, or the same text stands on both sides.
    """
    texts = Texts(_side(positive, "positive"), _side(negative, "negative"))
    both = set(texts.positive) & set(texts.negative)
    if both:
        first = next(text for text in texts.positive if text in both)
        raise BadInput(
            f"the text {shortened(first)!r} is both positive and negative", hint="a text can be on one side only"
        )
    return texts


def shortened(text: str, length: int = 60) -> str:
    """The text, or its beginning with … after it."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _side(values: Sequence[str], side: str) -> tuple[str, ...]:
    texts = []
    for value in values:
        file = _file(value)
        texts += list(_read(file)) if file else [_checked(value, f"a --{side} text")]
    if not texts:
        raise BadInput(f"there is no {side} text", hint=f"give some with --{side}; a direction needs both sides")
    return tuple(texts)


def _file(value: str) -> Path | None:
    """The file that a value names, None for a text. Raises NotFound for a path at which there is none."""
    path = Path(value)
    try:
        if path.is_file():
            return path
    except OSError:  # longer than any name
        return None
    bare = value.strip()
    # A slash between words is a slash in a text.
    if (
        not bare
        or "\n" in bare
        or not (bare.lower().endswith(FILES) or ("/" in bare and not any(map(str.isspace, bare))))
    ):
        return None
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise NotFound(
        f"no file at {value}",
        hint=nearest(path.name, sorted(beside), otherwise="to give it as a text, put it into a .txt file"),
    )


def _read(path: Path) -> Iterator[str]:
    if path.suffix.lower() in TABLES:
        raise BadInput(
            f"{path} is neither .txt nor .jsonl", hint="write one text a line, or one {'text': ...} a line of .jsonl"
        )
    try:
        # Bytes split at line feeds alone: Unicode has other line ends, which are part of a text.
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise BadInput(f"{path} is empty", hint="write one text a line")
    is_json = path.suffix.lower() == ".jsonl"
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{where}: not UTF-8: {error.reason}", hint="save it as UTF-8") from error
        yield _checked(_field(text, where) if is_json else text, where)


def _field(line: str, where: str) -> str:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {error}", hint="each line is one JSON object") from error
    text = fields.get("text") if isinstance(fields, dict) else None
    if not isinstance(text, str):
        raise BadInput(f"{where}: no text", hint='write {"text": ...}')
    return text


def _checked(text: str, where: str) -> str:
    if not text.strip():
        raise BadInput(f"{where} is empty", hint="leave it out, or give it some words")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput(f"{where} has a lone surrogate at {error.start}", hint="save it as UTF-8") from error
    return text
