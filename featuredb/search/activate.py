"""Which features fire on some texts: the models and dictionaries of a store, run again as they were ingested.

A feature's score on a text is its activation there, as a share of the largest it is known to have, times the surprise
-log2(density) of its firing at all: what fires everywhere says little, and what is far from its best says less.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featuredb.capture.encode import Activations
from featuredb.errors import BadInput
from featuredb.records import FiredFeature, TextTokens, TokenFeature
from featuredb.search.contrast import rank_contrast
from featuredb.search.fired import By, Fired, Ranked, check_by, fired, rank, scores
from featuredb.search.passes import CutTexts, cut, vectors
from featuredb.search.running import Figures, Known, Loaded, Reading, Running
from featuredb.search.scope import figure_flags
from featuredb.store.refs import FeatureRef, get_feature
from featuredb.store.segments import SegmentReader
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.model import Model

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to run, and what to say of it. Checked when made."""

    texts: tuple[str, ...]
    dictionaries: Sequence[str] | None = None
    """By name; None asks all."""
    layers: Sequence[int] | None = None
    features: Sequence[str] | None = None
    """"dictionary/index": only these; None asks all."""
    contrast: tuple[str, ...] = ()
    """Texts whose features are taken away."""
    by: By = "max"
    limit: int | None = 20
    """The most features in the answer; None for every one that fires."""

    def __post_init__(self) -> None:
        check_by(self.by)
        if not self.texts:
            raise BadInput("there is no text", hint="give some words to run")
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"cannot list {self.limit} features", hint="at least 1")
        if self.features is not None and self.dictionaries is not None:
            raise BadInput("both features and dictionaries are named", hint="a feature's name says its dictionary")


def asked(
    texts: str | Sequence[str],
    dictionaries: Sequence[str] | None,
    limit: int | None,
    by: By,
    contrast: str | Sequence[str] | None,
    layers: Sequence[int] | None,
    features: Sequence[str] | None,
) -> Asked:
    """What a caller of `FeatureDB.activate` asks: one text may stand by itself. Raises BadInput."""
    others = _texts(contrast) if contrast is not None else ()
    if contrast is not None and not others:
        raise BadInput("there is no text to contrast with", hint="leave contrast out, or give a text")
    return Asked(_texts(texts), dictionaries, layers, features, others, by, limit)


def _texts(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


@dataclass(frozen=True, slots=True, eq=False)
class _Catalog:
    """The catalog while one question is answered."""

    session: Session
    known: Known


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """What one dictionary makes of the texts."""

    reading: Reading
    texts: CutTexts
    figures: Figures
    fired: Fired
    wanted: NDArray[np.int64] | None
    """The features that were asked for; None for all."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """One feature of an answer: the place of a row of `ranked`."""

    heard: _Heard
    ranked: Ranked
    place: int

    @property
    def feature(self) -> int:
        return int(self.ranked.feature[self.place])


Labels = Mapping[tuple[str, int], str]


class Activator:
    """Runs texts through the models of one store, which stay loaded from one text to the next. Callers take turns."""

    def __init__(self, store: Store, reader: SegmentReader) -> None:
        self._store = store
        self._running = Running(store, reader)
        self._turn = threading.Lock()

    def open(self, name: str) -> Loaded:
        """A dictionary of the store ready to be run: its model, its encoder, and how its newest run fed them.

        Raises NotFound, and BadInput where the model is not the one that was ingested.
        """
        return self._running.open(name)

    def named_model(self, name: str | None, fingerprint: str | None = None) -> Model:
        """A model of the store, loaded once; see `Running.named_model`."""
        return self._running.named_model(name, fingerprint)

    def close(self) -> None:
        """Lets go of the store's files; what is loaded stays."""
        self._running.close()

    def activate(self, asked: Asked, say: Say = lambda text: None) -> list[FiredFeature]:
        """The features that fire on the texts, those that say most first; ties by dictionary and index.

        Of several texts a feature's best score counts; of a contrast, the means on either side. A text longer than
        the run's contexts is cut into several, none of it left out; `say` is told into how many. Special tokens that a
        text spells out are read, and as in a run never count. Raises BadInput for a text without tokens, NotFound for
        a dictionary, layer or feature that is not there.
        """
        n = len(asked.texts), len(asked.contrast)
        with self._turn, self._catalog() as catalog:
            heard = self._hear(catalog, asked, say)
            ranked = [
                rank_contrast(each.fired, each.figures, *n) if asked.contrast else rank(each.fired, each.figures)
                for each in heard
            ]
            return self._rows(catalog, _best(heard, ranked, asked.limit), asked.by)

    def tokens(self, asked: Asked, per_token: int, say: Say = lambda text: None) -> list[TextTokens]:
        """Each text by itself: its features as `activate` gives them, and at each token the `per_token` first ones.

        At a token a feature's activation there is scored. A text that models of several dictionaries read differently
        comes once for each. No contrast is made here. Raises what `activate` does.
        """
        if asked.contrast:
            raise BadInput("a contrast is not shown token by token", hint="leave one of the two out")
        if per_token < 1:
            raise BadInput(f"cannot list {per_token} features a token", hint="at least 1")
        readers: dict[int, list[_Heard]] = {}
        with self._turn, self._catalog() as catalog:
            for each in self._hear(catalog, asked, say):
                readers.setdefault(id(each.texts), []).append(each)
            return [
                self._text(catalog, number, heard, asked, per_token)
                for number in range(len(asked.texts))
                for heard in readers.values()
            ]

    @contextmanager
    def _catalog(self) -> Iterator[_Catalog]:
        known = self._running.known()
        with self._store.reading() as session:
            yield _Catalog(session, known)

    def _hear(self, catalog: _Catalog, asked: Asked, say: Say) -> list[_Heard]:
        """Every dictionary that was asked; one pass of a model serves all that read it in the same way."""
        names, wanted = asked.dictionaries, {}
        if asked.features is not None:
            wanted = _wanted(catalog.session, asked.features)
            names = list(wanted)
        groups: dict[object, list[Reading]] = {}
        for reading in self._running.readings(catalog.session, catalog.known, names, asked.layers):
            groups.setdefault((reading.model_key, reading.packing), []).append(reading)
        heard: list[_Heard] = []
        said: set[str] = set()
        for readings in groups.values():
            texts, found = self._run(readings, (*asked.texts, *asked.contrast))
            if (remark := _remark(texts, readings[0])) and remark not in said:
                said.add(remark)
                say(remark)
            for reading, activations in zip(readings, found, strict=True):
                here = fired(activations, reading.n_features, texts, asked.by)
                heard.append(_Heard(reading, texts, self._running.figures(reading), here, wanted.get(reading.name)))
        return heard

    def _run(self, readings: Sequence[Reading], texts: Sequence[str]) -> tuple[CutTexts, list[Activations]]:
        """The texts as these readings' model reads them, and what each dictionary makes of them, by row."""
        model = self._running.model(readings[0])
        taken = cut(texts, model, readings[0].packing)
        parts: list[list[Activations]] = [[] for _ in readings]
        for rows, by_hook in vectors(model, taken, list(dict.fromkeys(reading.hook for reading in readings))):
            place = rows.astype(np.int32)
            for reading, mine in zip(readings, parts, strict=True):
                found = self._running.encoder(reading, model).encode(by_hook[reading.hook])
                mine.append(Activations(place[found.row], found.feature, found.activation))
        return taken, [Activations.concatenate(mine) for mine in parts]

    def _rows(self, catalog: _Catalog, found: Sequence[_Found], by: By) -> list[FiredFeature]:
        labels = self._labels(catalog, ((one.heard.reading, [one.feature]) for one in found))
        tokens: dict[tuple[int, int], tuple[str, ...]] = {}
        rows = []
        for one in found:
            text = int(one.heard.fired.text[one.ranked.entry[one.place]])
            known = id(one.heard.texts), text
            if known not in tokens:
                tokens[known] = self._token_texts(one.heard, text)
            rows.append(_row(one, text, tokens[known], labels, by))
        return rows

    def _text(
        self, catalog: _Catalog, number: int, heard: Sequence[_Heard], asked: Asked, per_token: int
    ) -> TextTokens:
        tokens = self._token_texts(heard[0], number)
        ranked = [rank(each.fired, each.figures, number) for each in heard]
        strongest = [_strongest(each, number, per_token) for each in heard]
        mentioned = ((each.reading, mine.feature.tolist()) for each, mine in zip(heard, strongest, strict=True))
        labels = self._labels(catalog, mentioned)
        at: list[list[TokenFeature]] = [[] for _ in tokens]
        for each, mine in zip(heard, strongest, strict=True):
            for place, index, activation, score in mine.rows():
                at[place].append(
                    TokenFeature(
                        dictionary=each.reading.name,
                        index=index,
                        label=labels.get((each.reading.name, index)),
                        flags=_flags(each.figures, index),
                        activation=activation,
                        score=score,
                    )
                )
        for one in at:
            one.sort(key=lambda feature: (-feature.score, feature.dictionary, feature.index))
        return TextTokens(
            text=number,
            model=heard[0].reading.model,
            tokens=tokens,
            fired=tuple(self._rows(catalog, _best(heard, ranked, asked.limit), asked.by)),
            strongest=tuple(tuple(one[:per_token]) for one in at),
        )

    def _labels(self, catalog: _Catalog, mentioned: Iterable[tuple[Reading, Collection[int]]]) -> Labels:
        by_dictionary: dict[str, tuple[Reading, set[int]]] = {}
        for reading, features in mentioned:
            by_dictionary.setdefault(reading.name, (reading, set()))[1].update(features)
        return {
            (reading.name, index): label
            for reading, features in by_dictionary.values()
            for index, label in self._running.labels(catalog.session, catalog.known, reading, features).items()
        }

    def _token_texts(self, heard: _Heard, text: int) -> tuple[str, ...]:
        texts = self._running.token_texts(heard.reading)
        return tuple([texts[token] for token in heard.texts.ids[text].tolist()])


def _wanted(session: Session, features: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """The indices of some features, by dictionary."""
    wanted: dict[str, list[int]] = {}
    for feature in features:
        dictionary, index = get_feature(session, FeatureRef.parse(feature))
        wanted.setdefault(dictionary.name, []).append(index)
    return {name: np.array(indices) for name, indices in wanted.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Strongest:
    """At each token of a text, the features of one dictionary that say most; arrays of one length."""

    place: NDArray[np.int64]
    feature: NDArray[np.int64]
    activation: NDArray[np.float32]
    score: NDArray[np.float64]

    def rows(self) -> Iterator[tuple[int, int, float, float]]:
        arrays = (self.place, self.feature, self.activation, self.score)
        return zip(*(array.tolist() for array in arrays), strict=True)


def _strongest(heard: _Heard, number: int, per_token: int) -> _Strongest:
    here = heard.fired
    first, end = np.searchsorted(here.text, [number, number + 1])
    part = slice(here.start[first], here.start[end])
    entry = np.repeat(np.arange(first, end), np.diff(here.start[first : end + 1]))
    row, activation, feature = here.row[part], here.activation[part], here.feature[entry]
    if heard.wanted is not None:
        chosen = np.isin(feature, heard.wanted)
        row, activation, feature, entry = row[chosen], activation[chosen], feature[chosen], entry[chosen]
    score = scores(activation.astype(np.float64), feature, here.largest[entry], heard.figures)
    order = np.lexsort((feature, -score, row))
    # How many of the same token come before each.
    nth = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    order = order[nth < per_token]
    return _Strongest(row[order] - heard.texts.starts[number], feature[order], activation[order], score[order])


def _best(heard: Sequence[_Heard], ranked: Sequence[Ranked], limit: int | None) -> list[_Found]:
    found = []
    for each, every in zip(heard, ranked, strict=True):
        mine = (every if each.wanted is None else every.only(each.wanted)).head(limit)
        for place, (score, feature) in enumerate(zip(mine.score.tolist(), mine.feature.tolist(), strict=True)):
            found.append((-score, each.reading.name, feature, _Found(each, mine, place)))
    found.sort(key=lambda one: one[:3])
    return [one for *_, one in found[:limit]]


def _row(one: _Found, text: int, tokens: tuple[str, ...], labels: Labels, by: By) -> FiredFeature:
    heard, ranked, place, index = one.heard, one.ranked, one.place, one.feature
    entry = int(ranked.entry[place])
    position = heard.fired.at(entry, by, heard.texts) - int(heard.texts.starts[text])
    return FiredFeature(
        dictionary=heard.reading.name,
        index=index,
        label=labels.get((heard.reading.name, index)),
        flags=_flags(heard.figures, index),
        activation=float(ranked.value[place]),
        token=tokens[position],
        position=position,
        activations=tuple(heard.fired.along(entry, heard.texts).tolist()),
        score=float(ranked.score[place]),
        tokens=tokens,
        text=text,
        n_texts=int(ranked.n_texts[place]),
        activation_contrast=None if ranked.contrast is None else float(ranked.contrast[place]),
        density=float(heard.figures.density[index]),
    )


def _flags(figures: Figures, index: int) -> tuple[str, ...]:
    return figure_flags(int(figures.n_fires[index]), float(figures.density[index]))


def _remark(texts: CutTexts, reading: Reading) -> str | None:
    """What a reader should know of how the texts were cut."""
    n_cut, longest = int(np.count_nonzero(texts.n_contexts > 1)), int(texts.n_contexts.max())
    if n_cut == 0:
        return None
    length = f"a context of {reading.packing.context_length} tokens"
    if len(texts.ids) == 1:
        return f"the text is longer than {length}: its {texts.n_rows:,} tokens were run as {longest} contexts"
    return f"{n_cut} of {len(texts.ids)} texts are longer than {length} and were run as several, at most {longest}"
