"""What others published becomes rows of a store: whole or not at all, once, and with nothing they did not say."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound, PluginFailed, StoreBusy
from featuredb.labels.publication import (
    Publication,
    PublishedExample,
    PublishedFeature,
    PublishedLabel,
)
from featuredb.labels.publish import import_publication, open_publication
from featuredb.progress import Progress
from featuredb.store.check import check
from featuredb.store.store import Store
from tests.small_publications import RICH, WORDS, delphi_folder, plugins, publication, small_source, state
from tests.small_store import build


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


class TestNewDictionary:
    def test_it_is_listed_shown_queried_and_found_whole(self, store: Store) -> None:
        done = import_publication(store, publication(RICH, n_features=5))
        assert (done.created, done.n_features, done.n_examples, done.n_labels, done.n_scores) == (True, 5, 2, 1, 1)
        assert check(store) == []
        db = FeatureDB(store)
        row = next(row for row in db.ls("dictionaries") if row.dictionary == "tiny-published")
        assert (row.kind, row.hook, row.model, row.plugin) == (
            "published",
            "layers.1.resid_pre",
            "tiny-model",
            "someone",
        )
        assert [row.corpus for row in db.ls("corpora")] == ["words", "someone"]
        card = db.feature("tiny-published/2", 5)
        assert (card.label, card.density, card.max_activation) == ("capital letters", 0.0125, 8.5)
        assert [(weight.token, weight.value) for weight in card.suppressed] == [(" no", -0.5), (" yes", -0.25)]
        assert [(example.kind, example.rank, example.tokens) for example in card.examples] == [
            ("top", 0, (" the", " cat")),
            ("top", 1, (" a", " cat", ".")),
        ]
        assert card.examples[1].activations == pytest.approx((0, 4, 1), abs=4 / 510)
        assert card.similar == ()
        found = db.sql("select feature from feature where dictionary = 'tiny-published' order by feature").to_pylist()
        assert [row["feature"] for row in found] == [0, 1, 2, 3, 4]

    def test_what_is_not_published_is_null(self, store: Store) -> None:
        import_publication(store, publication(RICH, n_features=4, extra={"n_tokens": 1_000}))
        db = FeatureDB(store)
        card = db.feature("tiny-published/2").row()
        names = ("n_fires", "mean_activation", "histogram", "n_tokens")
        assert [card[name] for name in names] == [None, None, [], 1_000]
        nothing = db.feature("tiny-published/0").row()
        assert [nothing[name] for name in ("n_fires", "density", "max_activation")] == [None, None, None]
        counted = db.sql("select count(n_fires), count(m2), count(density) from feature where run like 'published-%'")
        assert list(counted.to_pylist()[0].values()) == [0, 0, 1]
        assert import_publication(store, publication(RICH, name="other", n_features=4)).created
        assert db.feature("other/2").n_tokens is None

    def test_a_feature_that_never_fires_is_known_to_be_dead(self, store: Store) -> None:
        silent = PublishedExample((" a",), (0.0,))
        features = (
            PublishedFeature(0, density=0.0, max_activation=0.0, examples=(silent,)),
            # Rounded to nothing: it fired all the same.
            PublishedFeature(1, density=0.0, max_activation=0.5),
            PublishedFeature(2, density=0.0, examples=(PublishedExample((" a",), (0.25,)),)),
        )
        done = import_publication(store, publication(*features))
        db = FeatureDB(store)
        assert [db.feature(f"tiny-published/{index}").n_fires for index in range(3)] == [0, None, None]
        assert done.n_examples == 1
        assert done.warnings == ("1 texts on which their feature does not fire are no examples and are left out",)

    def test_a_text_that_many_features_share_is_kept_once(self, store: Store) -> None:
        shared = PublishedExample((" a", " cat"), (1.0, 2.0))
        done = import_publication(
            store, publication(*(PublishedFeature(index, examples=(shared,)) for index in range(50)))
        )
        assert done.n_examples == 50
        found = FeatureDB(store).sql("select count(*) as n from context where run like 'published-%'").to_pylist()
        assert found == [{"n": 1}]

    def test_the_whole_published_text_keeps_its_activations(self, store: Store) -> None:
        tokens = tuple(f" t{place}" for place in range(100))
        values = tuple(5.0 if place == 90 else 1.0 if place == 3 else 0.0 for place in range(100))
        import_publication(store, publication(PublishedFeature(0, examples=(PublishedExample(tokens, values),))))
        (row,) = FeatureDB(store).sql("select * from example where dictionary = 'tiny-published'").to_pylist()
        assert (row["position"], row["window_start"], len(row["window"])) == (90, 3, 88)
        # A card shows no more than it does of any other example.
        (example,) = FeatureDB(store).feature("tiny-published/0").examples
        assert example.tokens[0] == " t58"

    def test_activations_of_both_signs_keep_the_peaks(self, store: Store) -> None:
        example = PublishedExample((" a", " b", " c"), (1.0, -4.0, -2.0))
        done = import_publication(store, publication(PublishedFeature(0, examples=(example,))))
        (found,) = FeatureDB(store).feature("tiny-published/0").examples
        assert found.activations == pytest.approx((0, -4, -2), abs=0.01)
        assert "1 examples have activations of both signs; those of the peak's sign are kept" in done.warnings

    def test_a_name_that_is_taken_is_refused(self, store: Store) -> None:
        before = state(store)
        for name in ("alpha", "ALPHA"):
            with pytest.raises(BadInput, match="another dictionary is called 'alpha'"):
                import_publication(store, publication(RICH, name=name))
        with pytest.raises(BadInput, match="cannot name a dictionary"):
            import_publication(store, publication(RICH, name="../x"))
        import_publication(store, publication(RICH))
        with pytest.raises(BadInput, match="another dictionary is called 'tiny-published'"):
            import_publication(store, publication(RICH, publisher="another"))
        FeatureDB(store).remove_dictionary("tiny-published")
        assert state(store) == before

    def test_it_can_be_removed_and_imported_again(self, store: Store) -> None:
        before = state(store)
        first = import_publication(store, publication(RICH))
        FeatureDB(store).remove_dictionary("tiny-published")
        assert state(store) == before
        assert import_publication(store, publication(RICH)) == first
        assert check(store) == []


class TestDictionaryThatIsThere:
    def test_labels_and_scores_go_to_it_and_examples_are_left(self, store: Store) -> None:
        done = import_publication(store, publication(RICH), dictionary="alpha")
        assert (done.dictionary, done.created, done.n_labels, done.n_scores, done.n_examples) == (
            "alpha",
            False,
            1,
            1,
            0,
        )
        assert done.warnings == ("3 examples are left: alpha keeps those it has",)
        assert FeatureDB(store).feature("alpha/2").label == "capital letters"
        assert [row.dictionary for row in FeatureDB(store).ls("dictionaries")] == ["alpha", "beta"]
        assert check(store) == []

    def test_features_must_be_there(self, store: Store) -> None:
        before = state(store)
        good, bad = PublishedFeature(0, labels=(WORDS,)), PublishedFeature(8, labels=(WORDS,))
        with pytest.raises(NotFound, match="no feature 8 in 'alpha'"):
            import_publication(store, publication(good, bad), dictionary="alpha")
        with pytest.raises(NotFound, match="no dictionary called 'alfa'") as told:
            import_publication(store, publication(good), dictionary="alfa")
        assert told.value.hint is not None
        assert "'alpha'" in told.value.hint
        assert state(store) == before

    def test_labels_of_no_model_need_a_dictionary(self, store: Store) -> None:
        with pytest.raises(BadInput, match="says of no model what it labels"):
            import_publication(store, publication(RICH, model=""))


class TestAllOrNothing:
    def test_ctrl_c_leaves_nothing(self, store: Store) -> None:
        def interrupted() -> Iterator[PublishedFeature]:
            yield RICH
            raise KeyboardInterrupt

        before = state(store)
        for dictionary in (None, "alpha"):
            with pytest.raises(KeyboardInterrupt):
                import_publication(store, publication(n_features=9, features=interrupted()), dictionary=dictionary)
            assert state(store) == before

    def test_a_commit_that_fails_leaves_nothing(self, store: Store) -> None:
        before = state(store)
        with sqlite3.connect(store.paths.catalog) as catalog:
            catalog.execute(
                "create trigger no_labels before insert on label begin select raise(abort, 'not today'); end"
            )
        with pytest.raises(DBAPIError, match="not today"):
            import_publication(store, publication(RICH))
        assert state(store) == before
        with sqlite3.connect(store.paths.catalog) as catalog:
            catalog.execute("drop trigger no_labels")
        assert import_publication(store, publication(RICH)).created
        assert check(store) == []

    @pytest.mark.parametrize("indices", [(1, 0), (1, 1), (0, 3), (-1,)])
    def test_a_reader_that_breaks_its_promise_is_told_so(self, store: Store, indices: tuple[int, ...]) -> None:
        before = state(store)
        features = [PublishedFeature(index, labels=(WORDS,)) for index in indices]
        with pytest.raises(PluginFailed, match="publication gives feature"):
            import_publication(store, publication(features=features, n_features=3))
        assert state(store) == before

    @pytest.mark.parametrize("extra", [{"x": math.inf}, {"x": {1, 2}}, {"x": math.nan}])
    def test_what_json_cannot_say_is_the_readers_mistake(self, store: Store, extra: dict[str, object]) -> None:
        before = state(store)
        label = PublishedLabel("a", "auto", extra=extra)
        for one in (
            publication(PublishedFeature(0, labels=(label,))),
            publication(PublishedFeature(0, density=0.5, extra=extra)),
            publication(RICH, extra=extra),
        ):
            with pytest.raises(PluginFailed, match="cannot be kept"):
                import_publication(store, one)
        assert state(store) == before

    def test_an_error_inside_a_reader_is_the_plugins(self, store: Store) -> None:
        def broken() -> Iterator[PublishedFeature]:
            yield RICH
            raise ZeroDivisionError("oops")

        before = state(store)
        with pytest.raises(PluginFailed, match="someone reader.*oops"):
            import_publication(store, publication(features=broken(), n_features=9))
        assert state(store) == before

    def test_a_publication_of_nothing_is_refused(self, store: Store) -> None:
        before = state(store)
        with pytest.raises(BadInput, match="says nothing of any feature"):
            import_publication(store, publication(n_features=3, features=[]))
        assert state(store) == before

    def test_two_at_once_do_not_mix(self, store: Store) -> None:
        """While one import runs another of the same is refused; once it is done, it is what was there before."""

        def meanwhile() -> Iterator[PublishedFeature]:
            with pytest.raises(StoreBusy, match="another process is importing the same"):
                import_publication(store, publication(RICH))
            assert import_publication(store, publication(RICH, name="another")).created
            yield RICH

        assert import_publication(store, publication(features=meanwhile(), n_features=3)).created
        assert not import_publication(store, publication(RICH)).created
        assert check(store) == []
        assert list(store.paths.work.iterdir()) == []

    def test_what_a_killed_import_left_is_overwritten(self, store: Store) -> None:
        before = state(store)
        import_publication(store, publication(RICH))
        (key,) = (row.run for row in FeatureDB(store).ls("runs") if row.run.startswith("published-"))
        kept = {path: path.read_bytes() for path in store.paths.run_folder(key).iterdir()}
        FeatureDB(store).remove_dictionary("tiny-published")
        store.paths.run_folder(key).mkdir()
        for path, data in kept.items():
            path.write_bytes(data[: len(data) // 2])
        (store.paths.work_folder(key) / "done").mkdir(parents=True)
        (store.paths.work_folder(key) / "done" / "half").write_text("x")
        assert import_publication(store, publication(RICH)).created
        assert check(store) == []
        FeatureDB(store).remove_dictionary("tiny-published")
        assert state(store) == before

    def test_progress_ends_where_the_features_do(self, store: Store) -> None:
        told: list[Progress] = []
        import_publication(store, publication(RICH), progress=told.append)
        assert (told[0].done, told[-1].done, told[-1].total) == (2, 3, 3)


class TestOpening:
    def test_by_name_and_by_what_it_looks_like(self, tmp_path: Path) -> None:
        source, results = small_source(tmp_path / "np"), delphi_folder(tmp_path / "results")
        for spec in (f"neuronpedia:{source}", f"neuronpedia.v1:{source}", str(source)):
            assert open_publication(spec, registry=plugins()).publisher == "neuronpedia"
        assert open_publication(str(results), registry=plugins()).publisher == "delphi"

    def test_what_is_not_there_or_not_known(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no reader plugin called 'neuronpeda'"):
            open_publication(f"neuronpeda:{tmp_path}", registry=plugins())
        with pytest.raises(NotFound, match="no file or folder"):
            open_publication(str(tmp_path / "none"), registry=plugins())
        with pytest.raises(NotFound):
            open_publication(f"delphi:{tmp_path / 'none' / 'none'}", registry=plugins())
        (tmp_path / "empty").mkdir()
        with pytest.raises(BadInput, match="no reader recognises"):
            open_publication(str(tmp_path / "empty"), registry=plugins())


def test_a_publication_read_twice_is_the_same(tmp_path: Path) -> None:
    found: Publication = open_publication(str(small_source(tmp_path)), registry=plugins())
    assert list(found.features) == list(found.features)
