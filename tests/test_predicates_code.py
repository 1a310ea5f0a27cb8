"""Predicates of Python source against Python's own tokenize and ast, over whole files and over fragments of them."""

from __future__ import annotations

import ast
import io
import keyword
import random
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from featuredb.predicates import Tagged, scan
from tests.small_passages import Piece, passages_of

LIBRARY = Path(ast.__file__).parent
FILES = (
    "ast.py",
    "textwrap.py",
    "graphlib.py",
    "fileinput.py",
    "gzip.py",
    "string.py",
    "bisect.py",
    "queue.py",
    "tomllib/_parser.py",
)
Span = tuple[int, int]


class Source:
    """A file of the standard library, and where Python says things are in it."""

    def __init__(self, name: str) -> None:
        self.text = (LIBRARY / name).read_text(encoding="utf-8")
        lines = io.StringIO(self.text).readlines()
        self._starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).tolist()
        self.tokens = list(tokenize.generate_tokens(io.StringIO(self.text).readline))
        self.nodes = list(ast.walk(ast.parse(self.text)))

    def of_token(self, token: tokenize.TokenInfo) -> Span:
        return self._starts[token.start[0] - 1] + token.start[1], self._starts[token.end[0] - 1] + token.end[1]

    def of_node(self, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> Span:
        assert self.text.isascii(), "ast counts bytes"
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def kinds(self, *kinds: int) -> Iterator[Span]:
        return (self.of_token(token) for token in self.tokens if token.type in kinds)

    def named(self, test: Callable[[int], bool]) -> Iterator[Span]:
        """Names by their number among all tokens that are no line ends or comments."""
        return (self.of_token(self.plain[n]) for n in range(len(self.plain)) if test(n))

    @property
    def plain(self) -> list[tokenize.TokenInfo]:
        left_out = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
        return [token for token in self.tokens if token.type not in left_out]


def keywords(source: Source) -> Iterator[Span]:
    wanted = set(keyword.kwlist) - {"None", "True", "False"}
    return (source.of_token(token) for token in source.plain if token.type == tokenize.NAME and token.string in wanted)


def after(word: str) -> Callable[[Source], Iterator[Span]]:
    def spans(source: Source) -> Iterator[Span]:
        plain = source.plain
        return source.named(lambda n: n > 0 and plain[n - 1].string == word and plain[n - 1].type == tokenize.NAME)

    return spans


def parameters(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef):
            all_of_them = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            for each in all_of_them:
                if each is not None:
                    start, _ = source.of_node(each)
                    yield start, start + len(each.arg)


def keyword_arguments(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        if isinstance(node, ast.Call):
            for each in node.keywords:
                if each.arg is not None:
                    start, _ = source.of_node(each)
                    yield start, start + len(each.arg)


def annotated(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield source.of_node(node.returns)
        if isinstance(node, ast.AnnAssign):
            yield source.of_node(node.annotation)
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield source.of_node(node.annotation)


def docstrings(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            start, end = source.of_node(node.body[0])
            opening = source.text[start:end].index('"') if '"' in source.text[start : start + 2] else 0
            yield start + opening + 3, end - 3


def base_classes(source: Source) -> Iterator[Span]:
    names = [source.of_token(token) for token in source.plain if token.type == tokenize.NAME]
    for node in source.nodes:
        if isinstance(node, ast.ClassDef):
            for low, high in map(source.of_node, node.bases):
                yield from (name for name in names if low <= name[0] and name[1] <= high)


def attributes(source: Source) -> Iterator[Span]:
    """Those outside f-strings, which are strings here."""
    inner = {part for node in source.nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node not in inner:
            _, end = source.of_node(node)
            yield end - len(node.attr), end


def imported(source: Source) -> Iterator[Span]:
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom):
            start, end = source.of_node(node)
            names = source.text[start:end]
            at = start + names.index("import") + 6
            for word in source.plain:
                low, high = source.of_token(word)
                if at <= low and high <= end and word.type == tokenize.NAME and word.string != "as":
                    yield low, high


TRUTHS: dict[str, Callable[[Source], Iterator[Span]]] = {
    "code.comment": lambda source: source.kinds(tokenize.COMMENT),
    "code.keyword": keywords,
    "code.after_def": after("def"),
    "code.after_class": after("class"),
    "code.parameter": parameters,
    "code.keyword_argument": keyword_arguments,
    "code.annotation": annotated,
    "code.base_class": base_classes,
    "code.attribute": attributes,
    "code.imported": imported,
    "string.docstring": docstrings,
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_whole_file_is_read_as_python_reads_it(name: str) -> None:
    n_expected = 0
    for file in FILES:
        source = Source(file)
        tagged = Tagged(passages_of(Piece(source.text, file)))
        spans = sorted(TRUTHS[name](source))
        text = tagged.view.text
        expected = text.over(
            np.array([low for low, _ in spans], np.int64), np.array([high for _, high in spans], np.int64)
        )
        found = tagged.predicate(name) & ~tagged.view.blank
        wrong = np.flatnonzero(found != (expected & ~tagged.view.blank))
        shown = [source.text[max(0, text.start[at] - 30) : text.end[at] + 10] for at in wrong[:3].tolist()]
        assert not len(wrong), f"{file}: {len(wrong)} tokens, such as {shown}"
        n_expected += int(expected.sum())
    assert n_expected > 10, "the files have none"


def test_fragments_know_strings_and_comments_nearly_everywhere() -> None:
    rng = random.Random(0)
    n_right = n_all = 0
    for file in FILES:
        source = Source(file)
        truth = bytearray(len(source.text))
        for kind, mark in ((tokenize.STRING, scan.STRING), (tokenize.COMMENT, scan.COMMENT)):
            for low, high in source.kinds(kind):
                truth[low:high] = bytes([mark]) * (high - low)
        for _ in range(40):
            low = rng.randrange(1, max(2, len(source.text) - 900))
            high = min(len(source.text), low + 900)
            found = bytearray(high - low)
            for lexeme in scan.scan(source.text, low, high, whole=False)[0]:
                if lexeme.kind in (scan.STRING, scan.COMMENT):
                    found[lexeme.start - low : lexeme.end - low] = bytes([lexeme.kind]) * (lexeme.end - lexeme.start)
            n_right += sum(one == other for one, other in zip(found, truth[low:high], strict=True))
            n_all += high - low
    assert n_right / n_all > 0.98


FRAGMENTS = {
    "in a docstring": ('s things well.\n    """\n    x = 1\n', 's things well.\n    """'),
    "in a comment": (" of it all\nx = 1\ny = 2\n", " of it all"),
    "in a string": ("one two', y)\nx = 1\n", "one two'"),
    "in code": ("x = 1\ny = 'two'\n", ""),
}


@pytest.mark.parametrize("where", FRAGMENTS)
def test_a_fragment_knows_what_it_begins_in(where: str) -> None:
    text, inside = FRAGMENTS[where]
    lexemes, begun = scan.scan(text, 0, len(text), whole=False)
    assert begun == bool(inside)
    if begun:
        assert text[lexemes[0].start : lexemes[0].end] == inside


def test_brackets_opened_before_a_fragment_are_known_by_what_closes_them() -> None:
    tagged = Tagged(passages_of(Piece("a, size=3), 4]\nb = c\n", "a.py", offset=7)))
    texts = tagged.passages.texts
    size = texts.index(" size")
    assert np.flatnonzero(tagged.predicate("code.keyword_argument")).tolist() == [size]
    assert tagged.predicate("code.depth_2")[: size + 1].tolist() == [True, True, True]
    assert tagged.predicate("code.assigned")[texts.index("b")]


def test_other_documents_are_no_code() -> None:
    tagged = Tagged(passages_of(Piece("def f(x): return None  # done\n", "a.txt")))
    assert not tagged.predicate("code.keyword").any()
    assert not tagged.predicate("code.comment").any()
    assert tagged.predicate("prose.any").all()
