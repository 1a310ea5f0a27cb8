"""The bank of predicates: what each holds of, said by marks in small texts, and what all of them have to keep."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuredb.predicates import BANK, Tagged
from featuredb.store.passages import Passages
from tests.small_passages import Piece, marked, passages_of

CODE = '''\
import os.path as path
from sys import argv, exit

LIMIT_MAX = 0x1F


@wraps(func)
class Parser(Base):
    """Reads things.

    More is said here.
    """

    def read(self, name: str, *rest, size=10) -> list:
        # First comment, see above
        for key, value in self.items():
            if key == "a\\n" and value != None:
                raise ValueError(f"bad {key!r}: %s" % value)
        self._count += len(rest) * 2
        return open(name, mode='rb')[1:2]
'''

HELD = (
    # spelling
    ("case.upper", "a.txt", "an ⟦HTTP⟧ call to ⟦NASA⟧ Is Ok"),
    ("case.lower", "a.txt", "⟦an⟧ HTTP ⟦call⟧ Is"),
    ("case.upper_word", "a.txt", "an ⟦HTTP⟧ A Ok"),
    ("case.capitalised", "a.txt", "an HTTP ⟦Is⟧ A ⟦Ok⟧"),
    ("case.camel", "a.txt", "some ⟦camelCase⟧ and CapWords"),
    ("case.cap_words", "a.txt", "some camelCase and ⟦CapWords⟧ Once"),
    ("case.snake", "a.txt", "a ⟦snake_case⟧ name _x"),
    ("case.constant", "a.txt", "a ⟦MAX_SIZE⟧ here HTTP"),
    ("digit.any", "a.txt", "in ⟦1984⟧ or x⟦2⟧"),
    ("digit.year", "a.txt", "in ⟦1984⟧ and ⟦2024⟧ not 3024"),
    ("digit.number", "a.txt", "in ⟦1984⟧ or x2"),
    ("digit.hexadecimal", "a.txt", "at ⟦0x1F⟧ or 16"),
    ("digit.fraction", "a.txt", "is ⟦3.14⟧ not 1.2.3"),
    ("digit.version", "a.txt", "is 3.14 but ⟦1.2.3⟧ and ⟦v2.0⟧"),
    ("digit.time", "a.txt", "on ⟦2001-02-03⟧ at ⟦12:30⟧ or 1-2"),
    ("digit.in_name", "a.txt", "the utf⟦8⟧ in 8"),
    ("mark.comma", "a.txt", "one⟦,⟧ two. three"),
    ("mark.question", "a.txt", "one, two⟦?⟧ three!"),
    ("mark.only", "a.txt", "a ⟦=⟧ b ⟦->⟧ c"),
    ("mark.rule", "a.txt", "Title\n⟦=====⟧\ntext - x"),
    ("mark.bracket_open", "a.txt", "f⟦(⟧a) x⟦[⟧1] d⟦{⟧}"),
    ("mark.bracket_pair", "a.txt", "f⟦()⟧ x(1)"),
    # words
    ("word.determiner", "a.txt", "⟦The⟧ cat in ⟦this⟧ house"),
    ("word.preposition", "a.txt", "The cat ⟦in⟧ this house"),
    ("word.pronoun", "a.txt", "⟦It⟧ shows ⟦us⟧ None"),
    ("word.modal", "a.txt", "It ⟦must⟧ or ⟦can⟧ be"),
    ("word.negation", "a.txt", "It is ⟦not⟧ and ⟦don't⟧ be"),
    ("word.weekday", "a.txt", "on ⟦Monday⟧ or a ⟦Tue⟧ day"),
    ("word.month", "a.txt", "in ⟦March⟧ of"),
    ("word.colour", "a.txt", "a ⟦red⟧ hat"),
    ("word.place", "a.txt", "to ⟦France⟧ in ⟦Latin⟧"),
    ("word.number", "a.txt", "of ⟦three⟧ or 3"),
    ("word.unit", "a.txt", "in ⟦seconds⟧ or ⟦bytes⟧ now"),
    ("word.ing", "a.txt", "a ⟦running⟧ string"),
    ("word.ed", "a.txt", "was ⟦needed⟧ and need"),
    ("word.ly", "a.txt", "was ⟦quickly⟧ family"),
    ("word.plural", "a.txt", "the ⟦cats⟧ of this class"),
    ("word.comparative", "a.txt", "is ⟦more⟧ or ⟦smallest⟧ test"),
    # white space and lines
    ("space.newline", "a.txt", "a⟦\n⟧b⟦\n  ⟧c"),
    ("space.indent", "a.txt", "a\nb⟦\n    ⟧c"),
    ("space.indent_4", "a.txt", "a⟦\n    ⟧c\n        d"),
    ("space.indent_8", "a.txt", "a\n    c⟦\n        ⟧d"),
    ("space.gap", "a.txt", "a⟦    ⟧. b\n    c"),
    ("space.blank_line", "a.txt", "a⟦\n\n⟧b\nc"),
    ("line.first", "a.txt", "⟦one⟧ two\n⟦three⟧ four"),
    ("line.second", "a.txt", "one⟦ two⟧\nthree⟦ four⟧ five"),
    ("line.last", "a.txt", "one⟦ two⟧\nthree⟦ four⟧\n"),
    ("line.alone", "a.txt", "one two\n⟦three⟧\nfour five"),
    ("line.margin", "a.txt", "⟦one two⟧\n    three\n⟦four⟧"),
    ("line.indented_4", "a.txt", "one two\n    ⟦three⟧\nfour"),
    ("line.after_blank", "a.txt", "one\n\n⟦two three⟧\nfour"),
    ("line.ends_colon", "a.txt", "⟦one two:⟧\nthree: four"),
    ("line.prompt", "a.txt", "see\n    ⟦>>>⟧ f(x)\n"),
    ("line.doctest", "a.txt", "see\n    ⟦>>> f(x)⟧\nno"),
    ("line.bullet", "a.txt", "see\n ⟦*⟧ one\n ⟦2.⟧ two\nx"),
    ("line.item", "a.txt", "see\n ⟦* one two⟧\nx"),
    ("line.underline", "a.txt", "Title\n⟦=====⟧\ntext"),
    ("line.heading", "a.txt", "⟦Title one⟧\n=====\ntext"),
    ("line.table", "a.txt", "⟦| a | b |⟧\nx | y\n"),
    ("line.directive", "a.txt", "see\n⟦.. note:: this⟧\nx"),
    # places and repeats
    ("place.context_first", "a.txt", "⟦one⟧ two three"),
    ("place.document_first", "a.txt", "⟦one⟧ two three"),
    ("repeat.previous", "a.txt", " one two⟦ two⟧ one"),
    ("repeat.second", "a.txt", " one two⟦ one⟧ three"),
    ("repeat.pair", "a.txt", " one two three one⟦ two⟧"),
    # prose and what stands before
    ("prose.sentence_first", "a.txt", "It is. ⟦Then⟧ it was. ⟦Now⟧ it"),
    ("prose.sentence_end", "a.txt", "It is⟦.⟧ Then e.g. it was⟦.⟧\n"),
    ("prose.question", "a.txt", "It is. ⟦Is it so?⟧ Yes"),
    ("prose.url", "a.txt", "see ⟦https://a.org/b⟧ now"),
    ("prose.email", "a.txt", "to ⟦me@a.org⟧ now"),
    ("prose.path", "a.txt", "in ⟦/usr/lib/x⟧ now"),
    ("prose.quoted", "a.txt", "the ⟦'word'⟧ isn't"),
    ("prose.ticked", "a.txt", "the ⟦`word`⟧ is"),
    ("prose.role", "a.txt", "see ⟦:class:`Word`⟧ now"),
    ("prose.abbreviation", "a.txt", "so ⟦e.g.⟧ that is etc"),
    ("prose.after_determiner", "a.txt", "the ⟦cat⟧ sat on a ⟦mat⟧"),
    ("prose.after_to", "a.txt", "so to ⟦speak⟧ of it"),
    ("after.comma", "a.txt", "one,⟦ two⟧ three. four"),
    ("after.capitals", "a.txt", "an HTTP⟦ call⟧ is"),
    ("after.line_break", "a.txt", "one\n⟦two⟧ three"),
    # code
    ("code.comment", "a.py", "x = 1  ⟦# is one⟧\ny = '#'"),
    ("code.comment_first", "a.py", "x = 1  # ⟦is⟧ one"),
    ("code.keyword", "a.py", "⟦for⟧ x ⟦in⟧ None: ⟦pass⟧"),
    ("code.constant", "a.py", "for x in ⟦None⟧: pass"),
    ("code.builtin", "a.py", "x = ⟦len⟧(y) + z.len"),
    ("code.exception", "a.py", "raise ⟦KeyError⟧(x)"),
    ("code.self", "a.py", "⟦self⟧.x = y"),
    ("code.dunder", "a.py", "x.⟦__init__⟧ = _y"),
    ("code.private", "a.py", "x.__init__ = ⟦_y⟧"),
    ("code.comparison", "a.py", "if x ⟦==⟧ 1 = 2"),
    ("code.arithmetic", "a.py", "x = y ⟦+⟧ z ⟦*⟧ 2"),
    ("code.assignment", "a.py", "x ⟦=⟧ f(y=1)"),
    ("code.argument_sign", "a.py", "x = f(y⟦=⟧1)"),
    ("code.block_colon", "a.py", "if x[1:2]⟦:⟧\n    y = {1: 2}"),
    ("code.key", "a.py", "y = {⟦a⟧: 2, ⟦b⟧: 3}"),
    ("code.loop_variable", "a.py", "for ⟦a⟧, ⟦b⟧ in c:"),
    ("code.value", "a.py", "x = ⟦y⟧ + 1"),
    ("code.after_return", "a.py", "def f():\n    return ⟦x⟧ + 1"),
    ("code.in_subscript", "a.py", "x[⟦1⟧] + [2]"),
    ("code.in_list", "a.py", "x[1] + [⟦2⟧]"),
    ("code.in_call", "a.py", "f(⟦a, b⟧) + (c)"),
    ("code.depth_2", "a.py", "f(a, (⟦b⟧))"),
    ("code.return_line", "a.py", "x\n⟦return x, y⟧\nz"),
    ("code.if_line", "a.py", "⟦if x and y:⟧\n    z"),
    ("string.any", "a.py", "x = '⟦one two⟧' + y"),
    ("string.single", "a.py", "x = '⟦one⟧' + \"two\""),
    ("string.double", "a.py", "x = 'one' + \"⟦two⟧\""),
    ("string.opening", "a.py", "x = ⟦'⟧one'"),
    ("string.closing", "a.py", "x = 'one⟦'⟧"),
    ("string.first", "a.py", "x = '⟦one⟧ two'"),
    ("string.escape", "a.py", "x = 'one ⟦\\n⟧ two'"),
    ("string.placeholder", "a.py", "x = 'one ⟦%s⟧ two' % y"),
    ("string.field", "a.py", "x = f'one ⟦{y}⟧ two'"),
    ("string.raw", "a.py", "x = r'⟦one⟧' + 'two'"),
    ("string.bytes", "a.py", "x = b'⟦one⟧' + 'two'"),
    # the whole of a small module
    ("code.module", "m.py", CODE.replace("import os.path", "import ⟦os⟧.⟦path⟧").replace("from sys", "from ⟦sys⟧")),
    ("code.imported", "m.py", CODE.replace("argv, exit", "⟦argv⟧, ⟦exit⟧")),
    ("code.after_as", "m.py", CODE.replace("as path", "as ⟦path⟧")),
    ("code.decorator", "m.py", CODE.replace("@wraps(func)", "⟦@wraps(func)⟧")),
    ("code.after_class", "m.py", CODE.replace("class Parser", "class ⟦Parser⟧")),
    ("code.base_class", "m.py", CODE.replace("(Base)", "(⟦Base⟧)")),
    ("code.after_def", "m.py", CODE.replace("def read", "def ⟦read⟧")),
    ("code.default", "m.py", CODE.replace("size=10", "size=⟦10⟧")),
    ("code.annotation", "m.py", CODE.replace(": str", ": ⟦str⟧").replace("-> list", "-> ⟦list⟧")),
    ("code.after_raise", "m.py", CODE.replace("raise ValueError", "raise ⟦ValueError⟧")),
    ("code.keyword_argument", "m.py", CODE.replace("mode='rb'", "⟦mode⟧='rb'")),
    ("code.augmented", "m.py", CODE.replace("+=", "⟦+=⟧")),
    ("string.docstring_first", "m.py", CODE.replace("Reads things.", "⟦Reads things.⟧")),
    ("string.formatted", "m.py", CODE.replace("bad {key!r}: %s", "⟦bad {key!r}: %s⟧")),
)


@pytest.mark.parametrize(("name", "document", "text"), HELD, ids=[row[0] for row in HELD])
def test_a_predicate_holds_of_the_marked_tokens_alone(name: str, document: str, text: str) -> None:
    plain, spans = marked(text)
    passages = passages_of(Piece(plain, document))
    found = Tagged(passages).predicate(name)
    ends = np.cumsum([len(passages.texts[token]) for token in passages.token])
    expected = [
        any(low < end and high > end - len(passages.texts[token]) for low, high in spans)
        for token, end in zip(passages.token.tolist(), ends.tolist(), strict=True)
    ]
    shown = [passages.texts[token] for token, each in zip(passages.token.tolist(), found.tolist(), strict=True) if each]
    assert found.tolist() == expected, f"it holds of {shown}"


def test_every_predicate_has_a_name_of_two_parts_and_english_in_both_forms() -> None:
    assert len(BANK) >= 120
    for name, predicate in BANK.items():
        assert name == predicate.name
        assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", name)
        for phrase in (predicate.noun, predicate.when):
            assert phrase == phrase.strip()
            assert 0 < len(phrase) <= 80, name
    assert len({predicate.noun for predicate in BANK.values()}) == len(BANK), "two predicates read the same"


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (Piece("", "a.py", tokens=[""]),),
        (Piece("   \n\n  "),),
        (Piece("'", "a.py"),),
        (Piece('"""', "a.py", offset=3),),
        (Piece(")]}", "a.py", offset=3),),
        (Piece("x\x00\n\x00y", "a.py", tokens=["x\x00", "\n", "\x00y"]),),
        (Piece("\ud800 lone", tokens=["\ud800", " lone"]),),
        (Piece("def f(:\n  ][ '", "a.py"), Piece("\t\tif x", "b.py", offset=9), Piece("é" * 5)),
    ],
    ids=["none", "empty", "blank", "quote", "quotes", "brackets", "border", "surrogate", "broken"],
)
def test_odd_text_gives_an_answer_for_every_token(pieces: tuple[Piece, ...]) -> None:
    passages = passages_of(*pieces)
    tagged = Tagged(passages)
    for name in BANK:
        found = tagged.predicate(name)
        assert found.shape == (passages.n_tokens,), name
        assert found.dtype == np.bool_


@given(st.data())
def test_no_answer_depends_on_another_piece(data: st.DataObject) -> None:
    lines = CODE.splitlines(keepends=True)
    pieces = []
    for _ in range(data.draw(st.integers(2, 4))):
        first = data.draw(st.integers(0, len(lines) - 1))
        last = data.draw(st.integers(first + 1, len(lines)))
        name = data.draw(st.sampled_from(["a.py", "b.txt"]))
        pieces.append(Piece("".join(lines[first:last]), name, offset=first))
    together = Tagged(passages_of(*pieces))
    alone = [Tagged(passages_of(piece)) for piece in pieces]
    for name in BANK:
        apart = np.concatenate([tagged.predicate(name) for tagged in alone])
        assert np.array_equal(together.predicate(name), apart), name


def test_tokens_that_share_a_character_have_its_answers() -> None:
    # "é" is two bytes and "€" three; the last token begins a character that its piece does not end.
    tokens = ["caf", "\\xc3", "\\xa9", " \\xe2", "\\x82", "\\xac", "x", "\\xe2"]
    tagged = Tagged(passages_of(Piece("", "a.txt", tokens=tokens)))
    assert tagged.view.text.string == "café €x\ufffd\x00\n"
    assert tagged.predicate("script.latin").tolist() == [False, True, True, *[False] * 5]
    assert tagged.predicate("script.not_ascii").tolist() == [False, True, True, True, True, True, False, True]
    assert tagged.predicate("script.part").tolist() == [False, True, True, True, True, True, False, True]
    assert tagged.predicate("piece.continues").tolist() == [False, True, True, False, False, False, False, False]


def test_spelled_out_bytes_in_source_are_text_where_they_are_no_bytes() -> None:
    tagged = Tagged(passages_of(Piece("", "a.py", tokens=["'", "\\x41", "'"])))
    assert tagged.view.text.string == "'\\x41'\x00\n"


def _random_passages(n: int, seed: int) -> Passages:
    rng = np.random.default_rng(seed)
    words = [*CODE.split(" "), "the", "HTTP", "=", "1999"]
    return passages_of(*(Piece(" ".join(rng.choice(words, 40)), f"{i % 3}.py", offset=i) for i in range(n)))


def test_a_row_of_the_bank_says_what_every_predicate_says() -> None:
    passages = _random_passages(6, 0)
    tagged = Tagged(passages)
    at = np.random.default_rng(1).integers(0, passages.n_tokens, 50)
    rows = tagged.rows(at)
    assert rows.shape == (50, len(BANK))
    for column, name in enumerate(BANK):
        assert np.array_equal(rows[:, column].astype(bool), Tagged(passages).predicate(name)[at]), name
