"""Predicates of English words, by closed lists and endings alone, and of the pieces that words are cut into.

The lists are short and the endings are rules of thumb: "needed" and "embed" both end in -ed, and only the second is
known to be no past form.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask
from featuredb.predicates.view import View

DETERMINERS = "the a an this that these those each every some any no another both either neither all such"
PREPOSITIONS = (
    "of in to for with on at from by about as into like through after over between out against during without before "
    "under around among within along across behind beyond except up off above below near since until upon toward "
    "towards via per onto outside inside instead"
)
PRONOUNS = (
    "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs itself "
    "themselves himself herself myself yourself ourselves one ones who whom whose which someone something anyone "
    "anything everyone everything nobody nothing"
)
AUXILIARIES = (
    "is are was were be been being am has have had having do does did isn't aren't wasn't weren't hasn't don't"
)
CONJUNCTIONS = "and or but nor so yet because although though while whereas if unless whether than when where"
MODALS = "can could may might must shall should will would cannot can't won't shouldn't wouldn't couldn't"
NEGATIONS = "not no never neither nor nothing nobody nowhere cannot without"
QUESTIONS = "what when where who whom whose why which how"
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand "
    "million billion first second third fourth fifth once twice"
)
DAYS = "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thurs fri sat sun"
MONTHS = (
    "january february march april may june july august september october november december jan feb mar apr jun jul "
    "aug sep sept oct nov dec"
)
COLOURS = "red green blue yellow orange purple black white gray grey brown pink cyan magenta violet"
PLACES = (
    "america africa asia europe england france germany italy spain russia china japan korea india canada australia "
    "mexico brazil egypt israel turkey greece poland sweden norway denmark finland netherlands belgium austria "
    "switzerland london paris berlin york washington moscow tokyo english french german italian spanish russian "
    "chinese japanese korean arabic hebrew greek turkish latin cyrillic american european dutch polish swedish "
    "norwegian danish"
)
UNITS = (
    "second seconds minute minutes hour hours day days week weeks month months year years millisecond milliseconds "
    "microsecond microseconds nanosecond nanoseconds byte bytes bit bits kilobyte megabyte gigabyte kb mb gb pixel "
    "pixels degree degrees percent meter meters metre metres inch inches mile miles hz px ms"
)
COMPARED = (
    "more less better worse larger smaller greater lower higher longer shorter faster slower older newer earlier later "
    "fewer further simpler easier bigger most least best worst latest greatest"
)
NO_ING = (
    "string strings thing nothing something everything anything king ring bring spring sing wing during morning "
    "evening ceiling ping"
)
NO_ED = "need feed seed speed indeed red bed exceed embed proceed succeed shed led fed breed bleed"
NO_LY = "family apply supply reply july fly assembly multiply imply rely italy anomaly poly"
NO_PLURAL = (
    "this was has does its is as us yes always perhaps alias bias previous others class pass less unless across "
    "process access plus minus thus various status basis analysis windows"
)


def _listed(name: str, noun: str, when: str, words: str) -> Predicate:
    wanted = frozenset(words.split())
    return _word(name, noun, when, lambda text: text.lower().replace("’", "'") in wanted)


def _word(name: str, noun: str, when: str, test: Callable[[str], bool]) -> Predicate:
    return Predicate(f"word.{name}", noun, when, lambda view: view.words(test))


def _ending(ending: str, least: int, but: str) -> Predicate:
    """Of lower-case words of an ending, some words aside."""
    left_out = frozenset(but.split())

    def test(text: str) -> bool:
        return len(text) >= least and text.endswith(ending) and text.islower() and text not in left_out

    return _word(ending, f"words in -{ending}", f"in a word in -{ending}", test)


def _is_plural(text: str) -> bool:
    return len(text) > 3 and text.endswith("s") and not text.endswith(("ss", "us", "is")) and text not in _NO_PLURAL


def _is_comparative(text: str) -> bool:
    superlative = text.endswith("est") and len(text) > 6 and not text.endswith(_NO_SUPERLATIVE)
    return superlative or text.lower() in _COMPARED


def _is_negation(text: str) -> bool:
    return text.lower() in _NEGATIONS or text.endswith(("n't", "n’t"))


_NO_SUPERLATIVE = ("test", "quest", "interest", "manifest", "suggest", "honest", "forest")
_NO_PLURAL, _COMPARED = frozenset(NO_PLURAL.split()), frozenset(COMPARED.split())
_NEGATIONS = frozenset(NEGATIONS.split())


def _bounds(view: View) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """(N,) the word each token lies on, -1 for none, and where that word starts and ends."""
    run, words = view.word, view.text.words
    place = np.maximum(run, 0)
    if not len(words.start):
        return run, np.zeros(view.n_tokens, np.int64), np.zeros(view.n_tokens, np.int64)
    return run, words.start[place], words.end[place]


def _begins(view: View) -> Mask:
    """Tokens that hold the first letter of a word; whether a piece from the middle of a document does, is not known."""
    run, start, _ = _bounds(view)
    unknown = (view.within == 0) & (view.offset > 0) & (start == view.text.start)
    found: Mask = (run >= 0) & (start >= view.text.start) & ~unknown
    return found


def _continues(view: View) -> Mask:
    """Tokens that begin inside a word."""
    run, start, _ = _bounds(view)
    found: Mask = (run >= 0) & (start < view.text.start)
    return found


def _cut(view: View) -> Mask:
    """Tokens that a word goes on after."""
    run, _, end = _bounds(view)
    found: Mask = (run >= 0) & (end > view.text.end)
    return found


def _of_length(low: int, high: int) -> Callable[[View], Mask]:
    return lambda view: view.table(lambda text: low <= len(text.strip()) <= high and text.strip().isalpha())


STOP_WORDS = " ".join((DETERMINERS, PREPOSITIONS, PRONOUNS, AUXILIARIES, CONJUNCTIONS))

CLASSES = (
    _listed("stop", "small function words", "on a function word", STOP_WORDS),
    _listed("determiner", "determiners such as `the`", "on a determiner", DETERMINERS),
    _listed("article", "articles", "on an article", "the a an"),
    _listed("preposition", "prepositions", "on a preposition", PREPOSITIONS),
    _listed("pronoun", "pronouns", "on a pronoun", PRONOUNS),
    _listed("auxiliary", "forms of be, have and do", "on a form of be, have or do", AUXILIARIES),
    _listed("conjunction", "conjunctions", "on a conjunction", CONJUNCTIONS),
    _listed("modal", "modal verbs", "on a modal verb", MODALS),
    _word("negation", "negations", "on a negation", _is_negation),
    _listed("question", "question words", "on a question word", QUESTIONS),
    _listed("number", "number words", "on a number word", NUMBERS),
    _listed("weekday", "days of the week", "on a day of the week", DAYS),
    _listed("month", "months", "on a month", MONTHS),
    _listed("colour", "colours", "on a colour", COLOURS),
    _listed("place", "countries, places and languages", "on a country, place or language", PLACES),
    _listed("unit", "units of measure", "on a unit of measure", UNITS),
    _ending("ing", 5, NO_ING),
    _ending("ed", 4, NO_ED),
    _ending("ly", 4, NO_LY),
    _word("plural", "plurals in -s", "in a plural", _is_plural),
    _word("comparative", "comparatives and superlatives", "on a comparative", _is_comparative),
    _word("long", "words of ten letters or more", "in a long word", lambda text: len(text) >= 10),
    _word("single", "single letters", "on a single letter", lambda text: len(text) == 1),
)

PIECES = (
    Predicate("piece.whole", "whole words", "on a whole word", lambda view: _begins(view) & ~_cut(view), wide=True),
    Predicate("piece.begins", "tokens that begin a word", "where a word begins", _begins, wide=True),
    Predicate(
        "piece.first",
        "beginnings of longer words",
        "at the beginning of a longer word",
        lambda view: _begins(view) & _cut(view),
        wide=True,
    ),
    Predicate(
        "piece.inner",
        "middles of words",
        "in the middle of a word",
        lambda view: _continues(view) & _cut(view),
        wide=True,
    ),
    Predicate(
        "piece.last", "ends of words", "at the end of a word", lambda view: _continues(view) & ~_cut(view), wide=True
    ),
    Predicate("piece.continues", "tokens that go on with a word", "inside a word", _continues, wide=True),
    Predicate("piece.one_letter", "tokens of one letter", "of one letter", _of_length(1, 1)),
    Predicate("piece.short", "tokens of two or three letters", "of two or three letters", _of_length(2, 3)),
    Predicate("piece.long", "tokens of seven letters or more", "of seven letters or more", _of_length(7, 99)),
    Predicate("piece.letters", "letters", "of letters", lambda view: view.table(lambda text: text.strip().isalpha())),
)

PREDICATES = (*CLASSES, *PIECES)
