"""Expressions: strangers' JSON is refused whole; what is accepted is worked out as it reads, and reads as English."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuredb.errors import BadInput
from featuredb.predicates import BANK, Expression, Tagged, check, describe
from featuredb.predicates.expression import MAX_DEPTH, MAX_LENGTH, MAX_PARTS, MAX_STRINGS, quote
from tests.small_passages import TOKEN, Piece, passages_of

PIECES = (
    Piece("the cat sat (on the mat)\nand the HTTP server returned 404", "one/a.txt"),
    Piece("returns: the sitting cat; reading a map, the end", "two/b.txt", offset=9),
)
TAGGED = Tagged(passages_of(*PIECES))
TOKENS = [[text.strip() and text for text in TOKEN.findall(piece.text)] for piece in PIECES]
NAMES = ("case.upper", "mark.comma", "digit.any", "word.determiner", "piece.whole", "after.round_open")
TEXTS = [" cat", " the", "the", "(", ",", " HTTP"]
WORDS = ["cat", "the", "The", "HTTP", "server"]


def test_an_accepted_expression_is_the_same_in_plain_types() -> None:
    given_one: Any = {"all": ({"is": "case.upper"}, {"not": {"token": ("a", "b")}})}
    assert check(given_one) == {"all": [{"is": "case.upper"}, {"not": {"token": ["a", "b"]}}]}
    assert json.loads(json.dumps(check(given_one))) == check(given_one)


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        (None, "predicate is no expression: None", 'write {"is": "group.name"}, for example'),
        ({}, "predicate is no expression: {}", 'write {"is": "group.name"}, for example'),
        ({"is": "a", "not": "b"}, "predicate is no expression: {'is': 'a', 'not': 'b'}", None),
        ({"is": "case.uper"}, "predicate.is: no predicate 'case.uper'", "did you mean 'case.upper' or"),
        ({"is": 3}, "predicate.is: no predicate 3", '{"is": "case.upper"} is one'),
        ({"nt": {"is": "case.upper"}}, "predicate: no operator 'nt'", "did you mean 'not'"),
        ({3: 4}, "predicate: no operator 3", None),
        ({"token": []}, f"predicate.token is no list of 1 to {MAX_STRINGS} things: []", None),
        ({"token": "abc"}, f"predicate.token is no list of 1 to {MAX_STRINGS} things: 'abc'", None),
        ({"word": ["a", 3]}, f"predicate.word: 3 is no text of 1 to {MAX_LENGTH} characters", None),
        ({"token": [""]}, f"predicate.token: '' is no text of 1 to {MAX_LENGTH} characters", None),
        ({"all": [{"is": "case.upper"}, 7]}, "predicate.all[1] is no expression: 7", None),
        ({"sequence": [["a"] * 9]}, "predicate.sequence[0] is no list of 1 to 8 things: ['a', 'a', 'a',", None),
        ({"before": {"token": ["\x1b[2J", 1]}}, "predicate.before.token: 1 is no text", None),
        ({"is": "\x1b[31mred"}, "predicate.is: no predicate '\\x1b[31mred'", None),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(expression: object, message: str, hint: str | None) -> None:
    with pytest.raises(BadInput) as refused:
        check(expression)
    assert refused.value.message.startswith(message)
    assert hint is None or (refused.value.hint or "").startswith(hint)


def test_size_and_depth_are_limited_before_anything_is_worked_out() -> None:
    deep: Expression = {"is": "case.upper"}
    for _ in range(MAX_DEPTH - 1):
        deep = {"not": deep}
    assert check(deep) == deep
    with pytest.raises(BadInput, match="too large"):
        check({"not": deep})
    with pytest.raises(BadInput, match="too large"):
        check({"any": [{"is": "case.upper"}] * MAX_PARTS})
    with pytest.raises(BadInput, match="no list"):
        check({"any": [{"is": "case.upper"}] * 100_000})
    with pytest.raises(BadInput, match="no list"):
        check({"token": ["a"] * (MAX_STRINGS + 1)})
    with pytest.raises(BadInput, match="no text"):
        check({"token": ["a" * (MAX_LENGTH + 1)]})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadInput):
        check({"any": endless})


expressions = st.recursive(
    st.one_of(
        st.sampled_from(NAMES).map(lambda name: {"is": name}),
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(lambda texts: {"token": texts}),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(lambda words: {"word": words}),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(lambda words: {"follows": words}),
        st.lists(st.sampled_from(["re", "th", "RE"]), min_size=1, max_size=2).map(lambda parts: {"begins": parts}),
        st.lists(st.sampled_from(["ing", "s"]), min_size=1, max_size=2).map(lambda parts: {"ends": parts}),
        st.sampled_from([["one/"], ["two/", "x"], ["one/a.txt"]]).map(lambda names: {"within": names}),
        st.lists(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2), min_size=1, max_size=2).map(
            lambda sequences: {"sequence": sequences}
        ),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["before", "after", "not"]), inner).map(lambda pair: {pair[0]: pair[1]}),
        st.tuples(st.sampled_from(["all", "any"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: {pair[0]: pair[1]}
        ),
    ),
    max_leaves=5,
)


@given(expressions)
def test_an_expression_holds_where_it_reads_as_true(expression: Expression) -> None:
    found = TAGGED.holds(expression) if _fits(expression) else None
    if found is not None:
        expected = [_true(expression, piece, at) for piece in (0, 1) for at in range(len(_tokens(piece)))]
        assert found.tolist() == expected
        assert TAGGED.holds(expression).tolist() == expected, "the second time it comes from the packed bits"
        assert describe(expression)


def _fits(expression: Expression) -> bool:
    try:
        check(expression)
    except BadInput:
        return False
    return True


def _tokens(piece: int) -> list[str]:
    return list(TOKEN.findall(PIECES[piece].text))


def _true(expression: Expression, piece: int, at: int) -> bool:
    """One token, one answer, by the definition."""
    ((operator, operand),) = expression.items()
    tokens = _tokens(piece)
    if not 0 <= at < len(tokens):
        return False
    if operator == "is":
        start = sum(len(_tokens(earlier)) for earlier in range(piece))
        return bool(TAGGED.predicate(operand)[start + at])
    if operator == "token":
        return tokens[at] in operand
    if operator == "sequence":
        return any(at + 1 >= len(s) and tokens[at + 1 - len(s) : at + 1] == s for s in operand)
    if operator == "within":
        return PIECES[piece].name.startswith(tuple(operand))
    if operator in ("before", "after"):
        there = at - 1 if operator == "before" else at + 1
        return 0 <= there < len(tokens) and _true(operand, piece, there)
    if operator == "not":
        return not _true(operand, piece, at)
    if operator in ("all", "any"):
        return (all if operator == "all" else any)(_true(part, piece, at) for part in operand)
    words = [token.strip() for token in tokens[: at + 1] if token.strip().isalpha()]
    if not tokens[at].strip().isalpha():
        return False
    if operator == "word":
        return words[-1] in operand
    if operator == "follows":
        return len(words) > 1 and words[-2] in operand
    word = words[-1].lower()
    ends = [text.lower() for text in operand]
    test = word.startswith if operator == "begins" else word.endswith
    return any(test(text) and len(word) >= len(text) + 2 for text in ends)


def test_brute_force_and_pattern_cut_the_same_words() -> None:
    words = TAGGED.view.text.words
    cut = [TAGGED.view.text.string[a:b] for a, b in zip(words.start, words.end, strict=True)]
    assert cut == [token.strip() for piece in (0, 1) for token in _tokens(piece) if token.strip().isalpha()]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ({"is": "case.upper"}, "capital letters"),
        ({"all": [{"is": "code.comment"}, {"is": "digit.only"}]}, "digits alone, in a comment"),
        ({"all": [{"is": "digit.only"}, {"not": {"is": "code.comment"}}]}, "digits alone, not in a comment"),
        ({"any": [{"is": "mark.comma"}, {"is": "mark.colon"}]}, "commas or colons"),
        ({"token": [" cat"]}, 'the token "cat"'),
        ({"token": [" cat", " dogs"]}, 'the tokens "cat", "dogs"'),
        ({"token": [" cat", "cat"]}, 'the token "cat"'),
        ({"token": ["(", " ("]}, 'the token "("'),
        ({"token": ["\n    ", "  "]}, 'the tokens "⏎", "··"'),
        ({"token": ['"']}, "the token '\"'"),
        ({"token": list("abcdefgh")}, 'the tokens "a", "b", "c", "d", "e" and 3 more'),
        ({"word": ["HTTP"]}, 'the word "HTTP"'),
        ({"begins": ["re", "un"]}, 'words that begin with "re", "un"'),
        ({"ends": ["ing"]}, 'words that end with "ing"'),
        ({"follows": ["the"]}, 'words after "the"'),
        ({"within": ["encodings/"]}, "tokens in encodings/"),
        ({"before": {"token": ["("]}}, 'tokens after "("'),
        ({"after": {"is": "mark.comma"}}, "tokens before commas"),
        ({"sequence": [["(", "self"], ["=", "self"]]}, '"self" after "(", "="'),
        ({"sequence": [["in", " case"], ["(", "self"]]}, 'the end of "in case", "(self"'),
        ({"all": [{"before": {"token": ["raise"]}}, {"is": "code.exception"}]}, 'exception classes, after "raise"'),
        ({"all": [{"token": [","]}, {"is": "code.in_call"}]}, 'the token ",", among a call\'s arguments'),
    ],
)
def test_an_expression_reads_as_english(expression: Expression, said: str) -> None:
    assert describe(expression) == said


def test_every_predicate_reads_alone_and_beside_another() -> None:
    for name, predicate in BANK.items():
        assert describe({"is": name}) == predicate.noun
        assert predicate.when in describe({"all": [{"token": ["x"]}, {"is": name}]})


def test_nothing_that_steers_a_screen_is_in_a_description() -> None:
    said = describe({"any": [{"token": ["\x1b[2J", "\u202e"]}, {"within": ["\x1b"]}]})
    assert said.isprintable()
    assert quote("\x07") == '"␇"'


def test_the_empty_text_has_an_answer_for_no_token() -> None:
    tagged = Tagged(passages_of())
    expression = {"any": [{"is": "case.upper"}, {"word": ["a"]}, {"before": {"token": ["x"]}}, {"follows": ["b"]}]}
    assert np.array_equal(tagged.holds(expression), np.zeros(0, np.bool_))


def test_tokens_that_show_the_same_text_are_the_same_to_an_expression() -> None:
    passages = passages_of(Piece("the cat saw the dog near the cat", "a.txt"))
    last = passages.token.copy()
    last[-1] = len(passages.texts)
    twice = Tagged(replace(passages, token=last, texts=[*passages.texts, passages.texts[passages.token[-1]]]))
    for expression in ({"token": [" cat"]}, {"sequence": [["the", " cat"], [" the", " cat"]]}):
        assert twice.holds(expression).tolist() == [False, True, *[False] * 5, True]
        assert Tagged(passages).holds(expression).tolist() == twice.holds(expression).tolist()


def test_expressions_make_way_for_others_and_are_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.predicates import tagged as module

    passages = passages_of(*PIECES)
    tagged = Tagged(passages)
    monkeypatch.setattr(module, "MOST_BYTES", 2 * len(np.packbits(np.zeros(passages.n_tokens, np.bool_))))
    expressions = [{"token": [text]} for text in sorted(set(passages.texts))[:5]]
    first = [tagged.holds(expression).tolist() for expression in expressions]
    assert len(tagged._expressions) == 2
    assert [tagged.holds(expression).tolist() for expression in expressions] == first
