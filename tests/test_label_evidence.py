"""The data door: two halves of the documents that never meet, and arrays that say what the segments say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featuredb
from featuredb.labels.decoys import Decoys
from featuredb.labels.evidence import Evidence
from featuredb.labels.requests import LabelToScore
from featuredb.labels.snippets import LEFT, RIGHT, SnippetMaker
from featuredb.labels.split import half_of
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from tests.small_ingest import N_FEATURES, SETTINGS, small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("evidence"))


@pytest.fixture(scope="module")
def db(store: Path) -> Iterator[featuredb.FeatureDB]:
    with featuredb.open(store) as opened:
        yield opened


@pytest.fixture(scope="module")
def halves(db: featuredb.FeatureDB) -> Iterator[dict[str, Evidence]]:
    reader = SegmentReader(db.store)
    with db.store.reading() as session:
        segment = SegmentRef.newest(session, get_dictionary(session, "top"))
    found = {half: Evidence(db.store, reader, segment, half) for half in ("labeling", "scoring")}
    yield found
    for evidence in found.values():
        evidence.close()
    reader.close()


def test_halves_are_of_about_the_same_size_and_do_not_depend_on_anything_else() -> None:
    names = [f"document {number}" for number in range(2_000)]
    share = np.mean([half_of(name) == "labeling" for name in names])
    assert 0.45 < share < 0.55
    assert [half_of("a.py"), half_of("b.py"), half_of("")] == [half_of("a.py"), half_of("b.py"), half_of("")]
    assert half_of("\udc80") in ("labeling", "scoring")


def test_no_document_is_in_both_halves_and_none_in_neither(halves: dict[str, Evidence]) -> None:
    labeling, scoring = (set(halves[half].passages.names.values()) for half in ("labeling", "scoring"))
    assert labeling
    assert scoring
    assert not labeling & scoring
    assert {half_of(name) for name in labeling} == {"labeling"}
    places = [set(_places(evidence)) for evidence in halves.values()]
    assert not places[0] & places[1]


def _places(evidence: Evidence) -> Iterator[tuple[int, int]]:
    passages = evidence.passages
    for piece, (context, position) in enumerate(zip(passages.context, passages.position, strict=True)):
        for within in range(int(passages.start[piece + 1] - passages.start[piece])):
            yield int(context), int(position) + within


def test_the_halves_together_hold_every_example_once_with_its_text(
    db: featuredb.FeatureDB, halves: dict[str, Evidence]
) -> None:
    for feature in range(0, N_FEATURES, 5):
        card = db.feature(f"top/{feature}", n_examples=1_000)
        expected = {("top" if x.kind == "top" else "sample", x.rank): x for x in card.examples}
        seen = set()
        for evidence in halves.values():
            examples = evidence.examples(feature, feature + 1)
            for number in examples.of(feature):
                key = (("top", "sample")[examples.kind[number]], int(examples.rank[number]))
                example = expected[key]
                seen.add(key)
                low, high = int(examples.low[number]), int(examples.high[number])
                assert evidence.passages.text(low, high) == "".join(example.tokens)
                assert examples.window(number) == pytest.approx(example.activations, abs=1e-6)
                assert int(examples.at[number]) - low == example.position - example.window_start
                assert half_of(example.document or "") == evidence.half
        assert seen == set(expected)


def test_the_halves_together_hold_every_firing_of_the_panel(
    db: featuredb.FeatureDB, halves: dict[str, Evidence]
) -> None:
    rows = db.sql("select feature, context, position, activation from panel").to_pylist()
    expected = {(row["feature"], row["context"], row["position"]): row["activation"] for row in rows}
    found = {}
    for evidence in halves.values():
        places = list(_places(evidence))
        firings = evidence.panel(0, N_FEATURES)
        assert evidence.passages.on_panel[firings.at].all()
        for feature, at, activation in zip(firings.feature, firings.at, firings.activation, strict=True):
            found[int(feature), *places[at]] = float(activation)
    assert found == pytest.approx(expected)


def test_reading_a_stretch_gives_what_reading_all_gives(halves: dict[str, Evidence]) -> None:
    evidence = halves["labeling"]
    whole, part = evidence.examples(0, N_FEATURES), evidence.examples(10, 20)
    for feature in range(10, 20):
        assert [whole.at[n] for n in whole.of(feature)] == [part.at[n] for n in part.of(feature)]
        assert np.concatenate([[0], *(whole.window(n) for n in whole.of(feature))]) == pytest.approx(
            np.concatenate([[0], *(part.window(n) for n in part.of(feature))])
        )


def test_snippets_fire_where_they_should_and_nowhere_else(halves: dict[str, Evidence]) -> None:
    evidence = halves["scoring"]
    maker = SnippetMaker(evidence, 5, 12, seed=3)
    bounds, piece = evidence.passages.start, evidence.passages.piece
    for feature in range(0, N_FEATURES, 7):
        drawn = maker.of(feature, [(feature + 1) % N_FEATURES, (feature + 2) % N_FEATURES])
        fires_at = set(evidence.panel(feature, feature + 1).at.tolist())
        peaks = set(evidence.examples(feature, feature + 1).at.tolist())
        assert set(drawn.firing.tolist()) <= peaks
        for place in drawn.silent.tolist():
            assert evidence.passages.on_panel[place]
            low = max(place - LEFT, int(bounds[piece[place]]))
            high = min(place + RIGHT + 1, int(bounds[piece[place] + 1]))
            assert not fires_at & set(range(low, high))


def test_snippets_do_not_depend_on_what_else_was_asked(halves: dict[str, Evidence]) -> None:
    evidence = halves["scoring"]
    one = SnippetMaker(evidence, 5, 12, seed=3)
    many = SnippetMaker(evidence, 5, 12, seed=3)
    for feature in (40, 2, 17):
        many.of(feature, [1])
    assert one.of(9, [1, 2]).firing.tolist() == many.of(9, [1, 2]).firing.tolist()
    assert one.of(9, [1, 2]).silent.tolist() == many.of(9, [1, 2]).silent.tolist()


def test_the_text_of_a_snippet_is_the_tokens_around_its_place_in_one_piece(halves: dict[str, Evidence]) -> None:
    passages = halves["scoring"].passages
    maker = SnippetMaker(halves["scoring"], 5, 12, seed=3)
    piece = passages.piece
    places = np.arange(0, passages.n_tokens, max(1, passages.n_tokens // 40))
    for place, text in zip(places.tolist(), maker.texts(places), strict=True):
        around = [at for at in range(place - LEFT, place + RIGHT + 1) if 0 <= at < passages.n_tokens]
        mine = [passages.texts[passages.token[at]] for at in around if piece[at] == piece[place]]
        assert text == maker.text(place) == "".join(mine).strip()


def test_decoys_fire_about_as_often_and_are_never_the_features_own() -> None:
    density = np.linspace(0, 1, 101)
    labels = [LabelToScore(1000 + index, index, f"label {index}", None) for index in range(101)]
    decoys = Decoys(labels, density, seed=5)
    for feature in (0, 13, 50, 100):
        drawn = [label.feature for label in decoys.draw(feature, 5)]
        assert feature not in drawn
        assert len(set(drawn)) == 5
        assert max(abs(other - feature) for other in drawn) <= 20
        assert drawn == [label.feature for label in Decoys(labels[::-1], density, seed=5).draw(feature, 5)]
    assert [label.feature for label in Decoys(labels[:1], density, 0).draw(0, 5)] == []
    assert {label.feature for label in Decoys(labels[:3], density, 0).draw(0, 9)} == {1, 2}


def test_the_panel_is_as_large_as_was_asked(halves: dict[str, Evidence]) -> None:
    contexts = {int(c) for evidence in halves.values() for c in evidence.passages.context[evidence.passages.panel]}
    assert len(contexts) <= SETTINGS.n_panel
