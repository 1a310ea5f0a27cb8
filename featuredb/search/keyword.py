"""Labels by keyword: what a user types, read as words, phrases, prefixes and exclusions, and the labels that have them.

Rule: every text is either read or refused with a reason; none reaches the full-text index as it is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from featuredb.errors import BadInput
from featuredb.search.filters import Scope
from featuredb.search.fuse import Key, tied_ranks
from featuredb.store.fulltext import Matching, best_matching, count_matching, matching_among, some_matching

MAX_LENGTH = 1_000
"""Characters in the longest query."""

MAX_TERMS = 32

RANKED = 20_000
"""Labels that bm25 ranks at most, which takes it about 1 us each.

Of more than these, `SOME` are looked at, spread evenly, and the shortest come first: where every label has the words
asked for, bm25 says little more than how short each is. Measured on 1,000,000 labels: 20 ms at 18,000 that match and
35 ms at 407,000, where ranking all of them takes 420 ms.
"""

SOME = 10_000


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or a phrase that was put in quotes."""

    text: str
    prefix: bool = False
    """Whether it stands for whatever begins with it."""

    @property
    def searchable(self) -> bool:
        """Whether the full-text index, which knows letters and digits alone, has anything to look for."""
        return any(_is_token(character) for character in self.text)


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked for: all the terms of any one alternative, and none of the excluded ones."""

    alternatives: tuple[tuple[Term, ...], ...]
    excluded: tuple[Term, ...] = ()

    @property
    def terms(self) -> Iterator[Term]:
        """Every term that is looked for."""
        return (term for alternative in self.alternatives for term in alternative)

    @property
    def words(self) -> str:
        """What is looked for in plain words, as an embedder wants it."""
        return " ".join(term.text for term in self.terms)


@dataclass(frozen=True, slots=True)
class LabelHit:
    """A feature with a label that matches."""

    key: Key
    rank: int
    label_id: int


def parse_query(text: str) -> Query:
    """A query's terms: words, "phrases in quotes", prefix*, -excluded, and OR between alternatives.

    An excluded term is excluded from every alternative. Raises BadInput for a quote that is never closed, for a query
    that only excludes, and for one that is too long.
    """
    if len(text) > MAX_LENGTH:
        raise BadInput(f"the query has {len(text):,} characters", hint=f"at most {MAX_LENGTH:,} are read")
    alternatives: list[list[Term]] = [[]]
    excluded = []
    for term, sign in _scan(_plain(text)):
        if term is None:
            alternatives.append([])
        elif sign == "-":
            excluded.append(term)
        else:
            alternatives[-1].append(term)
    found = tuple(tuple(alternative) for alternative in alternatives if alternative)
    if excluded and not found:
        raise BadInput(f"{text.strip()!r} only says what to leave out", hint="add a word to look for")
    n_terms = sum(map(len, found)) + len(excluded)
    if n_terms > MAX_TERMS:
        raise BadInput(f"the query has {n_terms} words", hint=f"at most {MAX_TERMS} are read; quote a phrase")
    return Query(found, tuple(excluded))


def _scan(text: str) -> Iterator[tuple[Term | None, str]]:
    """Each term with its sign, "-" or ""; None for the word OR."""
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        following = text[place + 1 : place + 2]
        sign = "-" if text[place] == "-" and (following == '"' or _is_token(following)) else ""
        place += len(sign)
        if text[place] == '"':
            end = text.find('"', place + 1)
            if end < 0:
                raise BadInput(
                    f"the quote before {text[place + 1 : place + 21]!r} is never closed",
                    hint="close it, or leave it out",
                )
            body, place = text[place + 1 : end].strip(), end + 1
            prefix = text[place : place + 1] == "*"
            place += prefix
        else:
            end = place
            while end < len(text) and not text[end].isspace() and text[end] != '"':
                end += 1
            body, place = text[place:end], end
            if body == "OR" and not sign:
                yield None, ""
                continue
            prefix = body.endswith("*") and body.strip("*") != ""
            body = body.rstrip("*") if prefix else body
        if body:
            yield Term(body, prefix and _is_token(body[-1])), sign


def _plain(text: str) -> str:
    """The text with a space for each character that is none: control codes, and halves of surrogate pairs."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)


def _is_token(character: str) -> bool:
    """Whether the index's tokenizer, unicode61, takes the character for a part of a word."""
    return character != "" and (unicodedata.category(character)[0] in "LN" or unicodedata.category(character) == "Co")


def match_expression(alternatives: Iterable[Iterable[Term]], excluded: Iterable[Term] = ()) -> str | None:
    """The alternatives in FTS5's syntax, every term quoted; None where nothing is left to look for."""
    parts = [" AND ".join(_quoted(term) for term in each if term.searchable) for each in alternatives]
    wanted = " OR ".join(f"({part})" for part in parts if part)
    if not wanted:
        return None
    unwanted = " OR ".join(_quoted(term) for term in excluded if term.searchable)
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


def _quoted(term: Term) -> str:
    text = term.text.replace('"', '""')
    return f'"{text}" *' if term.prefix else f'"{text}"'


def find_labels(session: Session, scope: Scope, query: Query, most: int) -> tuple[list[LabelHit], str | None]:
    """The features with a label that matches, one hit each by its best label, the best first; at most `most`.

    Any label but a failed one may match. Features whose labels match equally well share a rank. Beside them a remark
    on what was not looked at, or None.
    """
    whole = match_expression(query.alternatives, query.excluded)
    if whole is None:
        return [], None
    total = count_matching(session, whole)
    if total <= RANKED:
        return _hits(scope, [_ranked(session, scope, whole, total, most)], most), None
    # The rarer an alternative, the more its words say: bm25 would put its labels first as well.
    parts = []
    for alternative in query.alternatives:
        match = match_expression([alternative], query.excluded)
        if match is not None:
            parts.append((count_matching(session, match), match))
    rows, looked_at = [], 0
    for count, match in sorted(set(parts)):
        if count <= RANKED:
            rows.append(_ranked(session, scope, match, count, most))
            looked_at += count
        else:
            part, n_seen = _sampled(session, scope, match, count, most)
            rows.append(part)
            looked_at += n_seen
    remark = None
    if looked_at < total:
        remark = f"{total:,} labels match; {looked_at:,} of them were looked at, the shortest first: add a word"
    return _hits(scope, rows, most), remark


def excluded_labels(session: Session, query: Query, labels: Sequence[int]) -> set[int]:
    """Those of some labels that have an excluded term."""
    match = match_expression([[term] for term in query.excluded])
    return set() if match is None else matching_among(session, match, labels)


def _ranked(session: Session, scope: Scope, match: str, total: int, most: int) -> Matching:
    """The best labels by bm25 that are in scope, of `most` features or of all that there are."""
    depth = _likely(scope, most)
    while True:
        rows = best_matching(session, match, depth)
        kept = rows.only(scope.allows(rows.dictionary, rows.feature))
        if len(rows) >= total or _n_features(kept) >= most:
            return kept
        depth = min(8 * depth, total)


def _sampled(session: Session, scope: Scope, match: str, total: int, most: int) -> tuple[Matching, int]:
    """The shortest labels in scope among some that match, of `most` features or of all; and how many were looked at."""
    step = max(1, total // max(SOME, _likely(scope, most)))
    while True:
        rows = some_matching(session, match, step)
        kept = rows.only(scope.allows(rows.dictionary, rows.feature))
        if step == 1 or _n_features(kept) >= most:
            return kept, len(rows)
        step = max(1, step // 8)


def _likely(scope: Scope, most: int) -> int:
    """Labels among which there are likely those of `most` features in scope."""
    return max(2 * most, int(1.5 * most / max(scope.share, 1e-6)))


def _n_features(rows: Matching) -> int:
    return len(set(zip(rows.dictionary.tolist(), rows.feature.tolist(), strict=True)))


def _hits(scope: Scope, parts: list[Matching], most: int) -> list[LabelHit]:
    """Each of `most` features once, by the first of its labels; those of one part come before those of the next."""
    rows: dict[tuple[int, int], tuple[tuple[int, float], int]] = {}
    for number, part in enumerate(parts):
        columns = (part.dictionary, part.feature, part.order, part.label)
        for dictionary, feature, order, label in zip(*(column.tolist() for column in columns), strict=True):
            if len(rows) == most:
                break
            rows.setdefault((dictionary, feature), ((number, order), label))
    named = [((scope[key[0]].name, key[1]), order, label) for key, (order, label) in rows.items()]
    named.sort(key=lambda row: (row[1], row[0]))
    ranks = tied_ranks([order for _, order, _ in named])
    return [LabelHit(key, rank, label) for (key, _, label), rank in zip(named, ranks, strict=True)]
