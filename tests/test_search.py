"""Searching as a whole: one answer from three ways, what is said beside it, and what happens without the extra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound, PluginFailed
from featuredb.labels import add_label
from featuredb.plugins import Registry
from featuredb.search.filters import FeatureFilter
from featuredb.search.search import Searcher, SearchQuery
from featuredb.store import Store
from tests.text_store import Context, Example, build_text
from tests.toy_embedder import toys

CONTEXTS = [
    Context((" a", " comma", ",", " and"), ((0, 4),)),
    Context((" the", " letter", " comma"), ((0, 3),)),
    Context((" nothing",), ((0, 1),)),
]
EXAMPLES = {
    "alpha": [Example(1, 0, 0, 1), Example(2, 0, 1, 0), Example(2, 1, 2, 0), Example(3, 0, 2, 0)],
    "beta": [Example(1, 0, 1, 1)],
}
LABELS = {"alpha/1": "a comma", "alpha/3": "comma comma comma", "alpha/4": "letters", "beta/2": "mark of punctuation"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build_text(tmp_path / "small.fdb", CONTEXTS, EXAMPLES) as small:
        yield small


@pytest.fixture
def labelled(store: Store) -> Store:
    with store.session() as session:
        for feature, said in LABELS.items():
            add_label(session, feature, said)
    return store


class Asker:
    def __init__(self, store: Store, registry: Registry | None = None) -> None:
        self.db = FeatureDB(store)
        self.searcher = Searcher(store, self.db._reader, registry or toys())
        self.said: list[str] = []

    def __call__(self, text: str, **fields: object) -> list[tuple[str, tuple[str, ...], str]]:
        query = SearchQuery(text, **fields)  # type: ignore[arg-type]
        found = self.searcher.search(query, say=self.said.append)
        return [(one.feature, one.matched, one.text) for one in found]


def test_one_answer_says_how_each_feature_was_found(labelled: Store) -> None:
    asker = Asker(labelled)
    found = asker.searcher.search(SearchQuery("comma"))
    by_name = {one.feature: one for one in found}
    assert [one.feature for one in found][:2] == ["alpha/1", "alpha/3"]
    first = by_name["alpha/1"]
    assert (first.matched, first.text, first.label) == (("example", "label", "meaning"), " a comma, and", "a comma")
    assert first.ranks == {"example": 1, "label": 2, "meaning": 2}
    assert first.score == pytest.approx(1 / 61 + 1 / 62 + 1 / 62)
    assert (first.n_matching, first.n_at_peak, first.n_examples, first.density) == (1, 1, 1, 0.01)
    assert first.similarity is not None
    only = by_name["alpha/2"]
    assert (only.matched, only.text, only.label, only.similarity) == (("example",), " the letter comma", None, None)
    assert (only.n_matching, only.n_at_peak, only.n_examples) == (1, 0, 2)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


def test_a_feature_whose_examples_hardly_match_is_found_where_no_label_is(tmp_path: Path) -> None:
    contexts = [*CONTEXTS, *(Context((" x",), ((0, 1),)),) * 30]
    examples = {"alpha": [Example(1, 0, 0, 1), *(Example(1, 0, number, 0) for number in range(3, 33))]}
    with build_text(tmp_path / "hardly.fdb", contexts, examples) as store:
        asker = Asker(store)
        assert [feature for feature, *_ in asker("comma")] == ["alpha/1"]
        with store.session() as session:
            add_label(session, "alpha/2", "comma")
        assert [feature for feature, *_ in asker("comma")] == ["alpha/2"]
        assert [feature for feature, *_ in asker("comma", ways=("example",))] == ["alpha/1"]


def test_ways_can_be_chosen(labelled: Store) -> None:
    asker = Asker(labelled)
    assert asker("comma", ways=("label",)) == [
        ("alpha/3", ("label",), "comma comma comma"),
        ("alpha/1", ("label",), "a comma"),
    ]
    assert asker("letter", ways=("example",)) == [
        ("beta/1", ("example",), " the letter comma"),
        ("alpha/2", ("example",), " the letter comma"),
    ]
    both = asker("comma", ways=("label", "example"))
    assert {way for _, matched, _ in both for way in matched} == {"label", "example"}
    assert [feature for feature, *_ in asker("punctuation mark of", ways=("meaning",), limit=1)] == ["beta/2"]


def test_excluded_words_count_in_every_way(labelled: Store) -> None:
    found = Asker(labelled)("comma -a -letter")
    assert [(feature, matched) for feature, matched, _ in found if "comma" in LABELS.get(feature, "")] == [
        ("alpha/3", ("label", "meaning"))
    ]
    assert not {"alpha/1", "alpha/2", "beta/1"} & {feature for feature, *_ in found}


def test_a_regular_expression_looks_at_examples_alone(labelled: Store) -> None:
    asker = Asker(labelled)
    assert asker("[ck]om+a,", regex=True) == [("alpha/1", ("example",), " a comma, and")]
    with pytest.raises(BadInput, match="not a regular expression"):
        asker("(", regex=True)


def test_filters_hold_in_every_way(labelled: Store) -> None:
    asker = Asker(labelled)
    found = asker("comma OR punctuation", filter=FeatureFilter(dictionaries=("beta",)))
    assert {feature for feature, *_ in found} == {"beta/1", "beta/2"}
    unlabelled = asker("comma", filter=FeatureFilter(labelled=False))
    assert [(feature, matched) for feature, matched, _ in unlabelled] == [
        ("beta/1", ("example",)),
        ("alpha/2", ("example",)),
    ]
    assert asker("comma", filter=FeatureFilter(density=(0.5, 1.0))) == []


def test_punctuation_is_looked_for_in_examples(labelled: Store) -> None:
    asker = Asker(labelled)
    assert asker(",") == [("alpha/1", ("example",), " a comma, and")]
    with pytest.raises(BadInput, match="no letters or digits"):
        asker(",", ways=("label",))


def test_without_text_what_passes_is_listed_the_densest_first(labelled: Store) -> None:
    asker = Asker(labelled)
    assert asker("", filter=FeatureFilter(labelled=True)) == [
        (feature, (), said) for feature, said in sorted(LABELS.items())
    ]
    assert asker(" ", filter=FeatureFilter(dictionaries=("beta",)), limit=2) == [("beta/0", (), ""), ("beta/1", (), "")]
    (first, *_) = asker.searcher.search(SearchQuery("", FeatureFilter(labelled=True)))
    assert (first.score, first.density, first.ranks) == (0.01, 0.01, {})


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("", {}, "the query is empty"),
        (" ", {"filter": FeatureFilter(all_features=True)}, "the query is empty"),
        ("", {"filter": FeatureFilter(labelled=True), "ways": ("label",)}, "the query is empty"),
        ("", {"regex": True, "filter": FeatureFilter(labelled=True)}, "the query is empty"),
        ("a", {"limit": 0}, "no answer has 0 features"),
        ("a", {"ways": ("labels",)}, "not searched by 'labels'"),
        ("a", {"ways": ("label",), "regex": True}, "in examples alone"),
    ],
)
def test_what_cannot_be_asked_is_bad_input(text: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        SearchQuery(text, **fields)  # type: ignore[arg-type]


class TestWhatIsSaid:
    def test_a_store_without_labels_answers_from_examples(self, store: Store) -> None:
        asker = Asker(store)
        assert [feature for feature, *_ in asker("comma")] == ["alpha/1", "beta/1", "alpha/2"]
        assert asker.said == []
        assert asker("absent") == []
        assert asker.said == ["no labels yet: `featuredb ingest labels` or `featuredb label add` gives some"]

    def test_labels_asked_for_where_there_are_none(self, store: Store) -> None:
        asker = Asker(store)
        assert asker("comma", ways=("label",)) == []
        assert len(asker.said) == 1

    def test_how_many_were_left_out(self, labelled: Store) -> None:
        import duckdb

        with duckdb.connect(str(labelled.paths.segment("run-one", "alpha"))) as connection:
            connection.execute("update feature set n_fires = 7 where feature in (1, 2)")
        asker = Asker(labelled)
        assert "alpha/1" not in {feature for feature, *_ in asker("comma")}
        assert asker.said[-1] == "2 features fired on fewer than 200 tokens and are left out; --all takes them in"
        asker.said.clear()
        everything = asker.searcher.search(
            SearchQuery("comma", FeatureFilter(all_features=True)), say=asker.said.append
        )
        assert {one.feature: one.flags for one in everything}["alpha/1"] == ("under-sampled",)
        assert asker.said == []
        flagged = asker("comma", filter=FeatureFilter(flags=("under-sampled",)))
        assert {feature for feature, *_ in flagged} == {"alpha/1", "alpha/2"}

    def test_without_the_extra_the_other_ways_answer_and_say_so(self, labelled: Store) -> None:
        from importlib.metadata import EntryPoint

        registry = Registry([EntryPoint("sentence-transformers", "tests.toy_embedder:Gone", "featuredb.embedders")])
        asker = Asker(labelled, registry)
        assert {way for _, matched, _ in asker("comma") for way in matched} == {"label", "example"}
        assert asker.said == ["labels were searched by keyword alone: its library is not installed; pip install it"]
        with pytest.raises(PluginFailed, match="not installed"):
            asker("comma", ways=("meaning",))

    def test_an_embedder_that_was_named_must_be_there(self, labelled: Store) -> None:
        with pytest.raises(PluginFailed, match="not installed"):
            Asker(labelled)("comma", embedder="absent")
        with pytest.raises(NotFound):
            Asker(labelled)("comma", embedder="nonsense")


def test_labels_by_several_hands_are_one_feature(labelled: Store) -> None:
    with labelled.session() as session:
        add_label(session, "alpha/1", "another name for it")
    (found,) = Asker(labelled).searcher.search(SearchQuery("comma -letters", ways=("label",), limit=5))[1:]
    assert (found.feature, found.label, found.text) == ("alpha/1", "another name for it", "a comma")


def test_the_database_offers_it(labelled: Store) -> None:
    db = FeatureDB(labelled)
    found = db.search("comma", ["alpha"], 1, ["label"])
    assert [one.feature for one in found] == ["alpha/3"]
    assert found.to_arrow()["matched"].to_pylist() == [["label"]]
    assert [one.feature for one in db.search(labelled=True, layers=[1])] == ["beta/2"]
    assert list(db.search("comma", without=["dense"], density=(0.9, 1.0), ways=["example"])) == []


def test_a_removed_dictionary_is_found_no_more(labelled: Store) -> None:
    asker = Asker(labelled)
    asker("comma")
    asker.db.remove_dictionary("alpha")
    assert {feature.split("/")[0] for feature, *_ in asker("comma")} == {"beta"}
    with pytest.raises(NotFound):
        asker("comma", filter=FeatureFilter(dictionaries=("alpha",)))
