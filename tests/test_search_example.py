"""Features by what their examples say: against plain Python that looks at every window, one token at a time."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuredb.errors import BadInput
from featuredb.search.example_text import ExampleHit, ExampleText, TextQuery, regex_query, wilson_low, words_query
from featuredb.search.filters import FeatureFilter, Figures, read_scope
from featuredb.search.keyword import parse_query
from featuredb.search.matches import Pattern, token_bytes
from featuredb.store import Store
from featuredb.store.layout import RADIUS
from featuredb.store.segments import SegmentReader
from tests.small_store import N_FEATURES
from tests.text_store import Context, Example, build_text

TOKENS = [" the", " The", "cat", " cat", "s", " C", "at", "\n", " ", "(", ")", "_", " x1", "é", "caf"]
TOKENS += ["\\xc3", "\\xa9", "“", "”"]


def make(seed: int) -> tuple[list[Context], dict[str, list[Example]]]:
    """Contexts of random tokens, some of two documents behind tokens of none, and examples, some of both kinds."""
    draw = random.Random(seed)
    contexts = []
    for _ in range(60):
        length = draw.randint(3, 100)
        tokens = ("<|start|>", *draw.choices(TOKENS, k=length))
        cut = draw.randint(2, length)
        pieces = ((1, cut), (min(cut + 1, length), length + 1)) if draw.random() < 0.4 else ((1, length + 1),)
        contexts.append(Context(tokens, pieces))
    examples: dict[str, list[Example]] = {"alpha": [], "beta": []}
    for name, kept in examples.items():
        for feature in range(N_FEATURES[name]):
            places = []
            for context in draw.sample(range(60), draw.choice([0, 1, 5, 20])):
                start, end = draw.choice(contexts[context].pieces)
                places.append((context, draw.randrange(start, end)))
            for place in places:
                kinds = draw.choice([[0], [1], [0, 1]])
                kept += [Example(feature, kind, *place) for kind in kinds]
    return contexts, examples


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[Context], dict[str, list[Example]]]]:
    contexts, examples = make(0)
    with build_text(tmp_path_factory.mktemp("examples") / "small.fdb", contexts, examples) as store:
        yield store, contexts, examples


def find(store: Store, query: TextQuery, most: int = 100) -> list[ExampleHit]:
    reader = SegmentReader(store)
    with store.reading() as session:
        scope = read_scope(session, Figures(reader), FeatureFilter())
    hits = ExampleText(reader).find(scope, query, most)
    reader.close()
    return hits


def spans(context: Context, piece: tuple[int, int], pattern: Pattern) -> list[tuple[int, int]]:
    """First and last token of each match in a piece, by Python's own regular expressions over characters."""
    tokens = context.tokens[piece[0] : piece[1]]
    text = b"".join(token_bytes(token) for token in tokens)
    starts = np.cumsum([0, *(len(token_bytes(token)) for token in tokens)])
    # Bytes that are no text stand for one character each, which no pattern of these tests matches.
    chars = text.decode("utf-8", "surrogateescape")
    places = np.cumsum([0, *(len(char.encode("utf-8", "surrogateescape")) for char in chars)])
    expression = pattern.expression
    flags = re.IGNORECASE if expression.startswith("(?i)") else re.ASCII  # RE2 knows ASCII's words
    found = []
    for match in re.finditer(expression.removeprefix("(?i)"), chars, flags):
        before, after = chars[: match.start()][-1:], chars[match.end() :][:1]
        if match.end() == match.start():
            continue
        if pattern.word_before and (before == "_" or before.isalnum()):
            continue
        if pattern.word_after and (after == "_" or after.isalnum()):
            continue
        low, high = int(places[match.start()]), int(places[match.end()])
        first = int(np.searchsorted(starts, low, side="right")) - 1
        last = int(np.searchsorted(starts, high, side="left")) - 1
        found.append((piece[0] + first, piece[0] + last))
    return found


def brute_force(
    contexts: list[Context], examples: dict[str, list[Example]], query: TextQuery
) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Of every feature with an example that matches: contexts that match, that match at the peak, and in all."""
    figures: dict[tuple[str, int], tuple[int, int, int]] = {}
    for name, kept in examples.items():
        for feature in {one.feature for one in kept}:
            places = {(one.context, one.position) for one in kept if one.feature == feature}
            n_matching = n_at_peak = 0
            for number, position in places:
                context = contexts[number]
                (piece,) = [piece for piece in context.pieces if piece[0] <= position < piece[1]]
                low, high = max(piece[0], position - RADIUS), min(piece[1] - 1, position + RADIUS)
                inside = [
                    [span for span in spans(context, piece, pattern) if low <= span[0] and span[1] <= high]
                    for pattern in query.patterns
                ]
                wanted = any(all(inside[number] for number in each) for each in query.alternatives)
                if wanted and not any(inside[number] for number in query.excluded):
                    n_matching += 1
                    n_at_peak += any(
                        first <= position <= last for number in query.wanted for first, last in inside[number]
                    )
            if n_matching:
                figures[name, feature] = (n_matching, n_at_peak, len(places))
    return figures


def check(world: tuple[Store, list[Context], dict[str, list[Example]]], query: TextQuery) -> list[ExampleHit]:
    store, contexts, examples = world
    hits = find(store, query)
    expected = brute_force(contexts, examples, query)
    assert {hit.key: (hit.n_matching, hit.n_at_peak, hit.n_examples) for hit in hits} == expected

    def score(key: tuple[str, int]) -> float:
        n_matching, n_at_peak, n = expected[key]
        return float(wilson_low(np.array(n_matching), np.array(n)) + wilson_low(np.array(n_at_peak), np.array(n)))

    assert [hit.key for hit in hits] == sorted(expected, key=lambda key: (-score(key), key))
    assert [hit.rank for hit in hits] == [1 + sum(score(key) > score(hit.key) for key in expected) for hit in hits]
    return hits


WORDS = (
    *("cat", "Cat", "The", "the", "cats", "caf*", "café", "CAFÉ", "x1", "x", "_", "é*", "(", "()", "at", "the cat"),
    *('"the cat"', '"the cat s"', "cat -the", "cat OR x1 -é*", "the OR nothing", "nothing here", '"( cat"*', "“cat”"),
    *("s _", "cat s x1 (", '-"the cat" cat', "C*", "\\xc3"),
)


@pytest.mark.parametrize("typed", WORDS)
def test_words_are_found_where_they_stand(
    world: tuple[Store, list[Context], dict[str, list[Example]]], typed: str
) -> None:
    check(world, words_query(parse_query(typed)))


@pytest.mark.parametrize(
    "expression",
    [
        "cat",
        "(?i)CAT",
        "[Cc]ats?",
        r"the\s+cat",
        r"\bcat\b",
        "c(a)(t)s",
        "caf[a-z ]",
        "“[a-z ]*”",
        r"x\d",
        "(cat|at)+",
        r"\(+",
    ],
)
def test_regular_expressions_are_found_where_they_match(
    world: tuple[Store, list[Context], dict[str, list[Example]]], expression: str
) -> None:
    check(world, regex_query(expression))


def test_these_queries_find_something(world: tuple[Store, list[Context], dict[str, list[Example]]]) -> None:
    store, *_ = world
    found = [bool(find(store, words_query(parse_query(typed)))) for typed in WORDS]
    assert sum(found) >= len(WORDS) - 6


@pytest.mark.parametrize("few", [0.0, 1.0])
def test_looking_up_examples_and_reading_all_give_the_same(
    world: tuple[Store, list[Context], dict[str, list[Example]]], few: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featuredb.search.example_text.FEW", few)
    monkeypatch.setattr("featuredb.search.matches.CONTEXTS_AT_ONCE", 7)
    for typed in ("cat", "the -cat", "café"):
        check(world, words_query(parse_query(typed)))


def test_the_text_shown_holds_a_match_of_the_strongest_example_at_the_peak(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    said = [f" w{number}" for number in range(40)]
    contexts = [
        Context((*said, " cat", *said), ((0, 81),)),
        Context((" a", "\n", " cat", " b", " other"), ((0, 4), (4, 5))),
        Context((" caf", "\\xc3", "\\xa9", " cat"), ((0, 4),)),
    ]
    examples = {"alpha": [Example(1, 0, 0, 38), Example(1, 1, 1, 2), Example(2, 0, 0, 41), Example(3, 0, 2, 0)]}
    with build_text(tmp_path_factory.mktemp("shown") / "small.fdb", contexts, examples) as store:
        hits = {hit.key[1]: hit for hit in find(store, words_query(parse_query("cat")))}
    assert (hits[1].text, hits[1].at_peak) == (" a\n cat b", True)
    assert (hits[2].text, hits[2].at_peak) == ("…" + "".join(said)[-40:] + " cat" + "".join(said)[:40] + "…", False)
    assert (hits[3].text, hits[3].at_peak) == (" café cat", False)


def test_no_match_reaches_into_another_document_or_out_of_the_window(tmp_path_factory: pytest.TempPathFactory) -> None:
    filler = (" x",) * (RADIUS - 1)
    contexts = [
        Context((" the", " cat"), ((0, 1), (1, 2))),
        Context((" peak", *filler, " the", " cat"), ((0, RADIUS + 2),)),
        Context((" peak", *filler[1:], " the", " cat"), ((0, RADIUS + 1),)),
    ]
    examples = {"alpha": [Example(1, 0, 0, 0), Example(2, 0, 1, 0), Example(3, 0, 2, 0)]}
    with build_text(tmp_path_factory.mktemp("edges") / "small.fdb", contexts, examples) as store:
        assert [hit.key for hit in find(store, words_query(parse_query('"the cat"')))] == [("alpha", 3)]
        assert [hit.key[1] for hit in find(store, words_query(parse_query("the")))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(foo", r"not a regular expression: missing \): \(foo"),
        ("[a", r"not a regular expression: missing \]: \[a"),
        ("a{9999}", "invalid repetition size"),
        ("(?<=x)y", "invalid perl operator"),
        ("a**", "bad repetition operator"),
        ("*", "no argument for repetition operator"),
        ("a*", r"'a\*' matches where there is nothing"),
        ("^", r"'\^' matches where there is nothing"),
        ("\udc80", "not a regular expression"),
    ],
)
def test_expressions_that_cannot_be_used_are_named(expression: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        regex_query(expression)


def test_an_expression_that_matches_everywhere_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    contexts = [Context((" long" * 30,) * 10, ((0, 10),))]
    with (
        build_text(tmp_path_factory.mktemp("all") / "small.fdb", contexts, {}) as store,
        pytest.raises(BadInput, match="matches more often than there are tokens"),
    ):
        find(store, regex_query("."))


@given(n_matching=st.integers(0, 100), more=st.integers(0, 100))
def test_the_lower_end_is_wilsons(n_matching: int, more: int) -> None:
    """Of the two shares p with (p - share)^2 = z^2 p (1 - p) / n, the lower one."""
    n = n_matching + more
    low = float(wilson_low(np.array([n_matching]), np.array([n]))[0])
    if n == 0 or n_matching == 0:
        assert low == pytest.approx(0, abs=1e-12)
        return
    assert 0 < low < n_matching / n or low == pytest.approx(n_matching / n, abs=1e-9)
    assert (low - n_matching / n) ** 2 == pytest.approx(1.959964**2 * low * (1 - low) / n, abs=1e-9)


def test_one_of_one_says_less_than_twenty_of_twenty_four() -> None:
    one, many = wilson_low(np.array([1, 20]), np.array([1, 24]))
    assert one < many


@given(text=st.text(max_size=20))
def test_a_tokens_bytes_are_its_texts(text: str) -> None:
    if "\\x" not in text:
        expected = text.replace("\x01", " ").replace("\x02", " ").encode("utf-8", "surrogatepass")
        assert token_bytes(text) == expected


def test_bytes_that_are_no_text_by_themselves_are_read_back() -> None:
    assert token_bytes("caf\\xc3") + token_bytes("\\xa9") == "café".encode()
    assert token_bytes("\\x41\\n\\xzz") == b"\\x41\\n\\xzz"
