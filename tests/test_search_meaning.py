"""Labels by meaning: vectors that are made once and kept, a copy that follows the catalog, and the nearest of them."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound, PluginFailed
from featuredb.labels import add_label
from featuredb.progress import Progress
from featuredb.search import meaning
from featuredb.search.filters import FeatureFilter, Figures, Scope, read_scope
from featuredb.search.meaning import MeaningHit, MeaningSearch, embedded
from featuredb.store import Store
from featuredb.store.catalog import LabelEmbeddingRow, LabelRow
from featuredb.store.meanings import catalog_state, keep_vectors
from featuredb.store.remove import remove_dictionary
from featuredb.store.segments import SegmentReader
from tests.small_store import N_FEATURES, build
from tests.toy_embedder import WIDTH, Words, toys

WORDS = ["capital", "letter", "comma", "self", "import", "number", "name"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


@pytest.fixture(params=["held", "copied"])
def kept_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether vectors are read into memory, or copied beside the catalog."""
    if request.param == "copied":
        monkeypatch.setattr(meaning, "HELD", 0)
    found: str = request.param
    return found


def fill(store: Store, n: int, seed: int = 0) -> None:
    draw = random.Random(seed)
    with store.session() as session:
        for _ in range(n):
            name = draw.choice(list(N_FEATURES))
            said = " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
            add_label(session, f"{name}/{draw.randrange(N_FEATURES[name])}", said)


def scope_of(store: Store, wanted: FeatureFilter | None = None) -> Scope:
    reader = SegmentReader(store)
    with store.reading() as session:
        scope = read_scope(session, Figures(reader), wanted or FeatureFilter(all_features=True))
    reader.close()
    return scope


class Asker:
    """One process that searches."""

    def __init__(self, store: Store, embedder: str = "toy") -> None:
        self.store = store
        self.search = MeaningSearch(store, toys())
        self.model = self.search.model(embedder)
        self.said: list[str] = []
        self.reported: list[Progress] = []

    def __call__(self, query: str, most: int = 100, wanted: FeatureFilter | None = None) -> list[MeaningHit]:
        scope = scope_of(self.store, wanted)
        return self.search.find(self.model, query, scope, most, self.reported.append, self.said.append)


def calls(asker: Asker) -> list[list[str]]:
    assert isinstance(asker.model, Words)
    return asker.model.calls


def brute_force(store: Store, query: str, wanted: FeatureFilter | None = None) -> dict[tuple[str, int], float]:
    """Every feature's largest cosine, from vectors made anew and rounded as the catalog rounds them."""
    model = toys().embedder("toy").load(None)
    scope = scope_of(store, wanted)
    best: dict[tuple[str, int], float] = {}
    with store.reading() as session:
        rows = session.execute(
            select(LabelRow.dictionary_id, LabelRow.feature_index, LabelRow.text).where(LabelRow.text.is_not(None))
        ).all()
    (asked,) = model.embed([query]).astype(np.float64)
    for dictionary_id, index, said in rows:
        if scope.allows(np.array([dictionary_id]), np.array([index]))[0]:
            vector = model.embed([said or ""])[0].astype(np.float16).astype(np.float64)
            key = (scope[dictionary_id].name, index)
            best[key] = max(best.get(key, -2.0), float(vector @ asked / np.linalg.norm(vector)))
    return best


@pytest.mark.usefixtures("kept_as")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(
    query=st.lists(st.sampled_from([*WORDS, "other"]), min_size=1, max_size=4).map(" ".join),
    most=st.integers(1, 14),
    wanted=st.sampled_from(
        [
            FeatureFilter(all_features=True),
            FeatureFilter(dictionaries=("beta",), all_features=True),
            FeatureFilter(density=(0.03, 0.05), all_features=True),
        ]
    ),
)
def test_the_nearest_are_those_of_a_scan_of_all(store: Store, query: str, most: int, wanted: FeatureFilter) -> None:
    if not scope_labelled(store):
        fill(store, 60)
    hits = Asker(store)(query, most, wanted)
    best = brute_force(store, query, wanted)
    order = sorted(best, key=lambda key: -best[key])[:most]
    assert len(hits) == len(order)
    assert [hit.similarity for hit in hits] == pytest.approx([best[key] for key in order], abs=1e-6)
    for hit in hits:
        assert hit.similarity == pytest.approx(best[hit.key], abs=1e-6)
        assert abs(hit.rank - (1 + sum(value > best[hit.key] + 1e-6 for value in best.values()))) == 0


def scope_labelled(store: Store) -> bool:
    with store.reading() as session:
        return bool(session.scalar(select(func.count()).select_from(LabelRow)))


@pytest.mark.usefixtures("kept_as")
class TestVectorsAreMadeOnce:
    def test_equal_texts_are_embedded_together_and_nothing_twice(self, store: Store) -> None:
        with store.session() as session:
            for index in range(8):
                add_label(session, f"alpha/{index}", "comma" if index % 2 else "capital letters")
        asker = Asker(store)
        asker("comma")
        assert calls(asker) == [["capital letters", "comma"], ["comma"]]
        assert asker.said[0] == "8 labels are searched by meaning for the first time: 2 texts"
        assert [(one.done, one.total) for one in asker.reported if one.stage == "embed labels"] == [(0, 2), (2, 2)]
        other = Asker(store)
        other.said.clear()
        other("comma")
        assert calls(other) == [["comma"]]
        assert other.said == []

    def test_a_new_label_is_found_by_the_next_search(self, store: Store) -> None:
        fill(store, 10)
        asker = Asker(store)
        assert asker("something new")[0].similarity < 0.7
        with store.session() as session:
            add_label(session, "alpha/7", "something new")
        (first, *_) = asker("something new")
        assert first.key == ("alpha", 7)
        assert first.similarity == pytest.approx(1, abs=1e-3)
        assert calls(asker)[2:] == [["something new"]] * 2  # the label, then the query

    def test_a_removed_label_is_found_no_more(self, store: Store) -> None:
        fill(store, 20)
        with store.session() as session:
            gone = add_label(session, "alpha/7", "something new").id
        asker = Asker(store)
        assert asker("something new")[0].label_id == gone
        with store.session() as session:
            session.execute(delete(LabelRow).where(LabelRow.id == gone))
        assert gone not in {hit.label_id for hit in asker("something new")}
        with store.session() as session:  # SQLite gives its number to the next one
            assert add_label(session, "alpha/6", "not the same").id == gone
        assert asker("not the same")[0].key == ("alpha", 6)
        assert asker("something new")[0].similarity < 0.9

    def test_a_removed_dictionary_takes_its_vectors_with_it(self, store: Store) -> None:
        fill(store, 20)
        asker = Asker(store)
        asker("comma")
        remove_dictionary(store, "alpha")
        assert {hit.key[0] for hit in asker("comma")} == {"beta"}
        with store.reading() as session:
            n = session.scalar(select(func.count()).select_from(LabelEmbeddingRow))
            assert n == session.scalar(select(func.count()).select_from(LabelRow))

    def test_only_the_dictionaries_asked_for_are_embedded(self, store: Store) -> None:
        with store.session() as session:
            add_label(session, "alpha/1", "comma")
            add_label(session, "beta/1", "letter")
        asker = Asker(store)
        asker("x", wanted=FeatureFilter(dictionaries=("beta",), all_features=True))
        assert calls(asker) == [["letter"], ["x"]]
        assert {hit.key for hit in asker("x")} == {("alpha", 1), ("beta", 1)}
        assert calls(asker)[2:] == [["comma"], ["x"]]

    def test_what_is_done_stays_done_when_it_is_stopped(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(meaning, "BATCH", 2)
        with store.session() as session:
            for index in range(5):
                add_label(session, f"alpha/{index}", f"label {index}")
        asker = Asker(store)
        whole = asker.model.embed

        def stopped(texts: list[str]) -> np.ndarray:
            if "label 2" in texts:
                raise KeyboardInterrupt
            return whole(texts)

        asker.model.embed = stopped  # type: ignore[assignment, method-assign]
        with pytest.raises(KeyboardInterrupt):
            asker("x")
        again = Asker(store)
        again("x")
        assert calls(again) == [["label 2", "label 3"], ["label 4"], ["x"]]

    def test_two_embedders_do_not_disturb_each_other(self, store: Store) -> None:
        fill(store, 20)
        one, two = Asker(store), Asker(store, "toy:other")
        first = one("comma")
        assert two("comma") == first == one("comma")
        with store.reading() as session:
            kept = session.execute(select(LabelEmbeddingRow.embedder, func.count()).group_by("embedder")).all()
        assert [tuple(row) for row in kept] == [("toy.v1:other", 20), ("toy.v1:words", 20)]


class TestCopy:
    @pytest.fixture(autouse=True)
    def copied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(meaning, "HELD", 0)

    def copies(self, store: Store) -> list[Path]:
        return sorted(store.paths.meaning.glob("*/*"))

    def test_it_is_made_once_for_each_state_and_the_old_one_goes(self, store: Store) -> None:
        fill(store, 20)
        asker = Asker(store)
        asker("comma")
        assert [path.name for path in self.copies(store)] == ["20-20"]
        assert asker.said[1:] == ["preparing 20 labels to be searched by meaning"]
        Asker(store)("comma")
        before = self.copies(store)[0].stat().st_mtime_ns
        other = Asker(store)
        assert other("comma") == asker("comma")
        assert (other.said, self.copies(store)[0].stat().st_mtime_ns) == ([], before)
        with store.session() as session:
            add_label(session, "alpha/1", "something new")
        other("comma")
        assert [path.name for path in self.copies(store)] == ["21-21"]
        assert asker("something new")[0].key == ("alpha", 1)

    def test_one_that_is_deleted_or_damaged_is_made_again(self, store: Store) -> None:
        fill(store, 20)
        expected = Asker(store)("comma")
        (copy,) = self.copies(store)
        for name in ("owners.npy", "vectors.safetensors"):
            whole = (copy / name).read_bytes()
            for damaged in (b"", whole[:50], b"{" * 200):
                (copy / name).write_bytes(damaged)
                assert Asker(store)("comma") == expected
                assert (copy / name).read_bytes() == whole
        shutil.rmtree(store.paths.meaning)
        assert Asker(store)("comma") == expected

    def test_a_search_that_has_it_open_goes_on_when_another_replaces_it(self, store: Store) -> None:
        fill(store, 20)
        asker = Asker(store)
        expected = asker("comma")
        known = asker.search._known[asker.model.id]
        shutil.rmtree(store.paths.meaning)
        assert asker("comma") == expected
        assert asker.search._known[asker.model.id] is known

    def test_where_none_can_be_written_vectors_are_read_into_memory(self, store: Store) -> None:
        fill(store, 20)
        store.paths.meaning.write_text("in the way")
        asker = Asker(store)
        assert len(asker("comma")) == len(brute_force(store, "comma"))
        assert "the labels' vectors are read into memory instead" in asker.said[-1]

    def test_a_check_of_the_store_has_nothing_against_it(self, store: Store) -> None:
        fill(store, 20)
        Asker(store)("comma")
        assert self.copies(store)
        assert FeatureDB(store).check() == []

    def test_unfinished_ones_are_no_copies_and_old_ones_go(self, store: Store) -> None:
        import os

        fill(store, 20)
        Asker(store)("comma")
        (copy,) = self.copies(store)
        new, old = copy.with_name(".abc.new"), copy.with_name(".def.new")
        for folder in (new, old):
            folder.mkdir()
        os.utime(old, (0, 0))
        with store.session() as session:
            add_label(session, "alpha/1", "something new")
        Asker(store)("comma")
        assert [path.name for path in self.copies(store)] == [".abc.new", "21-21"]


def test_vectors_of_labels_that_are_gone_or_done_already_are_let_go(store: Store) -> None:
    with store.session() as session:
        one, two = (add_label(session, "alpha/1", said).id for said in ("one", "two"))
    vector = np.ones(WIDTH, np.float32)
    with store.session() as session:
        keep_vectors(session, "toy.v1:words", {one: vector})
    with store.session() as session:
        keep_vectors(session, "toy.v1:words", {one: 2 * vector, two: vector, 999: vector})
    with store.reading() as session:
        kept = session.execute(select(LabelEmbeddingRow.label_id, LabelEmbeddingRow.vector)).all()
    assert [tuple(row) for row in kept] == [(number, vector.astype("<f2").tobytes()) for number in (one, two)]


def test_a_catalogs_files_tell_every_change(store: Store) -> None:
    """But one that is so recent that another may share its time."""
    catalog = store.paths.catalog
    fill(store, 1)
    assert catalog_state(catalog) is None
    time.sleep(0.15)
    before = catalog_state(catalog)
    assert before is not None
    with store.reading() as session:
        session.scalars(select(LabelRow)).all()
    assert catalog_state(catalog) == before
    for _ in range(3):
        fill(store, 1)
        assert catalog_state(catalog) is None
        time.sleep(0.15)
        after = catalog_state(catalog)
        assert after not in (None, before)
        before = after


class TestModels:
    def test_the_default_is_sentence_transformers(self, store: Store) -> None:
        assert MeaningSearch(store, toys()).model(None).id == "sentence-transformers.v1:words"
        assert MeaningSearch(store, toys()).model("toy:other").id == "toy.v1:other"

    def test_those_that_are_not_there_are_not_found(self, store: Store) -> None:
        for spec in ("nonsense", "toy:a/b"):
            with pytest.raises(NotFound):
                MeaningSearch(store, toys()).model(spec)
        with pytest.raises(PluginFailed, match="not installed"):
            MeaningSearch(store, toys()).model("absent")

    def test_one_that_breaks_is_named_and_keeps_nothing(self, store: Store) -> None:
        fill(store, 5)
        with pytest.raises(PluginFailed, match=r"broken.v1 gave no 64 finite numbers"):
            Asker(store, "broken")("comma")
        with store.reading() as session:
            assert session.scalar(select(func.count()).select_from(LabelEmbeddingRow)) == 0

    def test_labels_below_the_floor_are_not_near(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(store, 40)
        whole = Asker(store)("comma")
        monkeypatch.setitem(meaning.FLOORS, "toy.v1:words", 0.5)
        assert Asker(store)("comma") == [hit for hit in whole if hit.similarity >= 0.5]

    def test_a_query_without_words_has_no_meaning(self, store: Store) -> None:
        fill(store, 5)
        with pytest.raises(BadInput, match="no words"):
            Asker(store)("  ")

    def test_a_store_without_labels_has_nothing_near(self, store: Store) -> None:
        asker = Asker(store)
        assert asker("comma") == []
        assert calls(asker) == []

    def test_vectors_of_the_wrong_shape_are_refused(self) -> None:
        model = Words("toy.v1:short")
        model.width = WIDTH + 1
        with pytest.raises(PluginFailed):
            embedded(model, ["a"])
