"""Where patterns match in the kept text of a run: token by token, within documents, a few thousand contexts at a time.

Rule: text in, numbers out; what an example is, and which features have one, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import BadInput
from featuredb.store.layout import RADIUS
from featuredb.store.segments import SegmentReader, SegmentRef

if TYPE_CHECKING:
    import pyarrow as pa

CONTEXTS_AT_ONCE = 16_384

_OPEN, _CLOSE = 1, 2
"""Bytes that are set around every match, so that all of them are found at once. In texts, a space takes their place."""

_HIGH_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One thing to look for."""

    expression: str
    """In RE2's syntax."""
    word_before: bool = False
    word_after: bool = False
    """Whether it has to begin, or end, where no other part of a word stands beside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """The matches of one pattern in some text, in order, as tokens: the first and the last of each match, and of the
    piece of a document that it lies in. Tokens count through all the contexts of the text."""

    first: Numbers
    last: Numbers
    low: Numbers
    high: Numbers

    def near(self, n_tokens: int) -> Mask:
        """(n_tokens,) whether a match lies whole in the window around each token: RADIUS to either side of it, and no
        further than its document."""
        begin, end = np.maximum(self.last - RADIUS, self.low), np.minimum(self.first + RADIUS, self.high)
        fits = begin <= end
        return _covered(begin[fits], end[fits], n_tokens)

    def on(self, n_tokens: int) -> Mask:
        """(n_tokens,) whether a match covers each token."""
        return _covered(self.first, self.last, n_tokens)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedText:
    """What matches where in the kept text of a run, of N tokens."""

    begins: Numbers
    """(n_contexts,) the token each context begins with."""
    near: tuple[Mask, ...]
    on: tuple[Mask, ...]
    """For each pattern, (N,) whether it matches in the window around each token, and whether it covers the token."""

    def at(self, context: NDArray[Any], position: NDArray[Any]) -> Numbers:
        """The token at each place of a context."""
        at: Numbers = self.begins[context] + position
        return at

    def contexts(self, tokens: Mask) -> Numbers:
        """The contexts that have any of those tokens."""
        if not len(self.begins):
            return self.begins
        return np.flatnonzero(np.logical_or.reduceat(tokens, self.begins))


def check_expression(expression: str) -> None:
    """Raises BadInput for a regular expression that RE2 cannot read, or that matches where there is nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        matches_nothing = pc.match_substring_regex(pa.array([""]), pattern=expression)[0].as_py()
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise BadInput(
            f"not a regular expression: {reason}", hint="the syntax is RE2's, without look-around"
        ) from error
    if matches_nothing:
        raise BadInput(f"{expression!r} matches where there is nothing", hint="let it match a character or more")


def match_kept_text(reader: SegmentReader, segment: SegmentRef, patterns: Sequence[Pattern]) -> MatchedText:
    """All matches in the text of a run's kept contexts; none reaches from one document into the next."""
    texts = _Texts(reader.tokens(segment))
    lengths: list[Numbers] = []
    near: list[list[Mask]] = [[] for _ in patterns]
    on: list[list[Mask]] = [[] for _ in patterns]
    for table in reader.kept_text(segment, CONTEXTS_AT_ONCE):
        pieces = _pieces(table)
        joined = texts.joined(pieces)
        n_tokens = int(pieces.lengths.sum())
        for number, pattern in enumerate(patterns):
            spans = joined.spans(pattern, pieces)
            if len(spans.first) > max(n_tokens, 1_000):
                raise BadInput(
                    f"{pattern.expression!r} matches more often than there are tokens",
                    hint="let it match more at a time",
                )
            near[number].append(spans.near(n_tokens))
            on[number].append(spans.on(n_tokens))
        lengths.append(pieces.lengths)
    counts = np.concatenate([np.zeros(0, np.int64), *lengths])
    begins = np.cumsum(counts) - counts
    return MatchedText(
        begins,
        tuple(np.concatenate([np.zeros(0, np.bool_), *parts]) for parts in near),
        tuple(np.concatenate([np.zeros(0, np.bool_), *parts]) for parts in on),
    )


def spans_in(context: Mapping[str, Any], texts: Sequence[str], patterns: Sequence[Pattern]) -> list[Spans]:
    """Each pattern's matches in one context, a row as SegmentReader.contexts gives it; tokens count from its first."""
    import pyarrow as pa

    table = pa.table({name: [context[name]] for name in ("tokens", "piece_starts", "piece_ends")}, schema=_schema())
    pieces = _pieces(table)
    joined = _Texts(texts).joined(pieces)
    return [joined.spans(pattern, pieces) for pattern in patterns]


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.list_(pa.int32())) for name in ("tokens", "piece_starts", "piece_ends")])


def _covered(first: Numbers, last: Numbers, n: int) -> Mask:
    """(n,) which numbers lie in any of the ranges, first to last of each included."""
    change = np.bincount(first, minlength=n + 1) - np.bincount(last + 1, minlength=n + 1)
    covered: Mask = np.cumsum(change[:n]) > 0
    return covered


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """The pieces of documents in some contexts, laid end to end: tokens of no document are left out."""

    lengths: Numbers
    """Of the contexts, in tokens."""
    tokens: NDArray[np.int32]
    """Ids of the tokens in pieces."""
    source: Numbers
    """Which token, through all contexts, each of these is."""
    start: Numbers
    """(n + 1,) where in `tokens` each piece begins, and where the last one ends."""


def _pieces(table: pa.Table) -> _Pieces:
    tokens, starts, ends = (table.column(name).combine_chunks() for name in ("tokens", "piece_starts", "piece_ends"))
    lengths = tokens.value_lengths().to_numpy().astype(np.int64)
    begins = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(len(lengths)), starts.value_lengths().to_numpy())
    position = starts.flatten().to_numpy().astype(np.int64)
    count = ends.flatten().to_numpy().astype(np.int64) - position
    start = np.concatenate([[0], np.cumsum(count)])
    source = np.repeat(begins[owner] + position - start[:-1], count) + np.arange(int(start[-1]))
    return _Pieces(lengths, tokens.flatten().to_numpy()[source], source, start)


class _Texts:
    """The text of every token, in bytes."""

    def __init__(self, texts: Sequence[str]) -> None:
        import pyarrow as pa

        self._texts = pa.array(map(token_bytes, texts), pa.large_binary())

    def joined(self, pieces: _Pieces) -> _Joined:
        import pyarrow as pa

        taken = self._texts.take(pa.array(pieces.tokens))
        _, offsets, data = taken.buffers()
        # A token's bytes begin where those before it end, so the joined text is there already.
        token = np.frombuffer(offsets, np.int64)[taken.offset : taken.offset + len(taken) + 1]
        piece = np.ascontiguousarray(token[pieces.start])
        whole = pa.Array.from_buffers(pa.large_string(), len(piece) - 1, [None, pa.py_buffer(piece), data])
        return _Joined(np.frombuffer(data, np.uint8), token, piece, whole)


def token_bytes(text: str) -> bytes:
    """The bytes that a token's display text stands for: "\\xe2" is how the first byte of "–" reads by itself."""
    data = text.encode("utf-8", "surrogatepass").replace(b"\x01", b" ").replace(b"\x02", b" ")
    return _HIGH_BYTE.sub(lambda found: bytes([int(found[1], 16)]), data) if b"\\x" in data else data


@dataclass(frozen=True, slots=True, eq=False)
class _Joined:
    """Pieces of text laid end to end."""

    data: NDArray[np.uint8]
    token: Numbers
    """Where each token's bytes begin, and where the last one's end."""
    piece: Numbers
    """The same of pieces."""
    texts: pa.LargeStringArray
    """The pieces."""

    def spans(self, pattern: Pattern, pieces: _Pieces) -> Spans:
        """The pattern's matches in those pieces, whose text this is."""
        begin, end = self._places(pattern.expression)
        kept = end > begin
        if pattern.word_before:
            kept &= ~self._word_before(begin)
        if pattern.word_after:
            kept &= ~self._word_after(end)
        first = np.searchsorted(self.token, begin[kept], side="right") - 1
        last = np.searchsorted(self.token, end[kept], side="left") - 1
        piece = np.searchsorted(pieces.start, first, side="right") - 1
        low, high = pieces.start[piece], pieces.start[piece + 1] - 1
        return Spans(*(pieces.source[tokens] for tokens in (first, last, low, high)))

    def _places(self, expression: str) -> tuple[Numbers, Numbers]:
        """Where in the data the expression's matches begin and end."""
        import pyarrow as pa
        import pyarrow.compute as pc

        matching = pc.match_substring_regex(self.texts, pattern=expression)
        number = np.flatnonzero(matching.to_numpy(zero_copy_only=False))
        if not len(number):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        marked = pc.replace_substring_regex(
            self.texts.take(pa.array(number)), pattern=expression, replacement=f"{chr(_OPEN)}\\0{chr(_CLOSE)}"
        )
        _, offsets, data = marked.buffers()
        offset = np.frombuffer(offsets, np.int64)[: len(number) + 1]
        text = np.frombuffer(data, np.uint8)[: offset[-1]]
        opens, closes = np.flatnonzero(text == _OPEN), np.flatnonzero(text == _CLOSE)
        owner = np.searchsorted(offset, opens, side="right") - 1
        nth = np.arange(len(opens)) - np.searchsorted(opens, offset[:-1])[owner]
        # Back to the unmarked text: each earlier match of the piece has put two bytes before this one.
        shift = self.piece[number][owner] - offset[owner] - 2 * nth
        return opens + shift, closes + shift - 1

    def _word_before(self, begin: Numbers) -> Mask:
        """Whether a part of a word stands right before each place, in its piece."""
        first = self.piece[np.searchsorted(self.piece, begin, side="right") - 1]
        inside = begin > first
        before = self.data[np.maximum(begin - 1, 0)]
        found: Mask = inside & _WORD_BYTES[before]
        for place in np.flatnonzero(inside & (before >= 0x80)).tolist():
            found[place] = is_word(_text(self.data[max(first[place], begin[place] - 4) : begin[place]])[-1:])
        return found

    def _word_after(self, end: Numbers) -> Mask:
        """Whether a part of a word stands right after each place, in its piece."""
        last = self.piece[np.searchsorted(self.piece, end, side="left")]
        inside = end < last
        after = self.data[np.minimum(end, len(self.data) - 1)]
        found: Mask = inside & _WORD_BYTES[after]
        for place in np.flatnonzero(inside & (after >= 0x80)).tolist():
            found[place] = is_word(_text(self.data[end[place] : min(last[place], end[place] + 4)])[:1])
        return found


def is_word(character: str) -> bool:
    """Whether a character, or none, is a part of a word: a letter, a digit or an underscore."""
    return character == "_" or character.isalnum()


def _text(data: NDArray[np.uint8]) -> str:
    return data.tobytes().decode("utf-8", "replace")


_WORD_BYTES = np.array([byte < 0x80 and is_word(chr(byte)) for byte in range(256)])
