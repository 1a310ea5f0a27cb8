"""Concepts from texts through a real small model: hooks, figures, notes, refusals, and a store left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

import featuredb
from featuredb import FeatureDB
from featuredb.concepts import make as making
from featuredb.concepts.choices import parse_layers
from featuredb.concepts.methods import METHODS, lda, mean_difference, pca_of_pairs
from featuredb.concepts.request import ConceptRequest, Running
from featuredb.concepts.states import states
from featuredb.concepts.vectors import read_vectors
from featuredb.errors import BadInput, NotFound
from featuredb.model import load_model
from featuredb.store.catalog import ConceptDirectionRow, ConceptRow, ConceptTextRow
from tests.small_ingest import random_dictionary, request, save_corpus, save_model, texts
from tests.tiny_models import WIDTH, save_tiny

UPPER = tuple(text.upper() for text in texts(12))
LOWER = tuple(text.lower() for text in texts(12))
CPU = Running(device="cpu")
DEMO = Path(str(files("featuredb.demo"))) / "featuredb-demo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a store into which two dictionaries of it were ingested."""
    folder = tmp_path_factory.mktemp("concepts")
    model = save_model(folder / "model", num_hidden_layers=3)
    dictionaries = [random_dictionary(folder / "low", layer=0), random_dictionary(folder / "high", layer=2, seed=1)]
    with featuredb.open(folder / "store.fdb", create=True) as db:
        db.ingest(request(model, dictionaries, save_corpus(folder / "corpus.jsonl", texts(12))))
    return folder


@pytest.fixture
def db(folder: Path) -> Iterator[FeatureDB]:
    """The store, without any concept before and after."""
    with featuredb.open(folder / "store.fdb") as db:
        yield db
        for row in db.concepts.ls():
            db.concepts.rm(row.concept)


def asked(**changed: Any) -> ConceptRequest:
    given: dict[str, Any] = {"name": "caps", "positive": UPPER, "negative": LOWER, "running": CPU}
    return ConceptRequest(**(given | changed))


def vectors(folder: Path, hook: str, **options: Any) -> tuple[Any, Any]:
    model = load_model(str(folder / "model"), device="cpu")
    found = states(model, UPPER + LOWER, [hook], **options)[hook]
    return np.concatenate(found[: len(UPPER)]), np.concatenate(found[len(UPPER) :])


def test_it_stands_where_the_dictionaries_of_the_only_model_read(db: FeatureDB, folder: Path) -> None:
    row = db.concepts.add(asked())
    assert row.hooks == ("layers.0.resid_post", "layers.2.resid_post")
    assert (row.concept, row.model, row.method) == ("caps", "model", "mean-difference")
    assert (row.positive, row.negative) == (UPPER, LOWER)
    expected = mean_difference(*vectors(folder, "layers.2.resid_post", token="last"))
    found = read_vectors(db.store, "caps")
    assert found.by_hook["layers.2.resid_post"] == pytest.approx(expected, abs=1e-5)
    assert found.texts is not None
    assert found.texts.all == UPPER + LOWER
    assert (found.token, found.chat, found.model) == ("last", False, "model")
    model = load_model(str(folder / "model"), device="cpu")
    assert found.fingerprint == model.fingerprint
    for each in row.directions:
        assert each.width == WIDTH
        assert each.norm == pytest.approx(np.linalg.norm(found.by_hook[each.hook]), rel=1e-6)
        assert each.n_held_out == 24
        assert each.auroc is not None
        assert each.auroc_low is not None
        assert each.auroc_high is not None
        assert 0 <= each.auroc_low <= each.auroc <= each.auroc_high <= 1
    assert row.settings is not None
    assert row.settings["folds"] == 5
    assert row.settings["versions"]["torch"]
    assert db.concepts.get("caps") == row
    (listed,) = db.concepts.ls()
    assert (listed.n_positive, listed.positive, listed.auroc) == (12, (), row.auroc)


@pytest.mark.parametrize(
    ("method", "token", "direction"),
    [("pca", "mean", pca_of_pairs), ("lda", "all", lda), ("probe", "last", METHODS["probe"].make)],
)
def test_a_method_sees_the_vectors_of_the_chosen_tokens(
    db: FeatureDB, folder: Path, method: Any, token: Any, direction: Any
) -> None:
    db.concepts.add(asked(method=method, token=token, hooks=("layers.1.resid_post",)))
    expected = direction(*vectors(folder, "layers.1.resid_post", token=token))
    found = read_vectors(db.store, "caps").by_hook["layers.1.resid_post"]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(np.abs(expected).max()))


def test_layers_and_hooks_stand_side_by_side_in_the_models_order(db: FeatureDB) -> None:
    row = db.concepts.add(asked(layers=parse_layers("0,1"), hooks=("blocks.0.hook_mlp_out", "layers.2.resid_pre")))
    # layers.2.resid_pre is what layer 1 gives; the name that came first stays.
    assert row.hooks == ("layers.0.mlp_out", "layers.0.resid_post", "layers.2.resid_pre")


def test_the_same_request_gives_the_same_figures_and_batches_do_not_matter(db: FeatureDB) -> None:
    one = db.concepts.add(asked(name="one"))
    two = db.concepts.add(asked(name="two", running=Running(device="cpu", batch_size=1)))
    for mine, other in zip(one.directions, two.directions, strict=True):
        assert other.auroc == mine.auroc
        assert other.norm == pytest.approx(mine.norm, rel=1e-5)


def test_a_model_that_is_not_in_the_store_stands_at_every_layer(db: FeatureDB, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", "llama")
    row = db.concepts.add(asked(model=str(other)))
    assert (row.model, row.hooks) == ("other", ("layers.0.resid_post", "layers.1.resid_post"))
    by_name = db.concepts.add(asked(name="again", model="model"))
    assert by_name.hooks == ("layers.0.resid_post", "layers.2.resid_post")


def test_every_token_of_many_hooks_is_run_in_groups(
    db: FeatureDB, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = db.concepts.add(asked(name="whole", token="all", layers=(0, 1, 2)))
    monkeypatch.setattr(making, "HELD_NUMBERS", 1)
    parts = db.concepts.add(asked(name="parts", token="all", layers=(0, 1, 2)))
    assert parts.hooks == whole.hooks
    assert [each.auroc for each in parts.directions] == [each.auroc for each in whole.directions]


def test_sides_that_go_together_but_are_not_as_many_are_suspected(db: FeatureDB) -> None:
    row = db.concepts.add(asked(negative=LOWER[:-1], hooks=("embed",), token="mean"))
    told = [note for note in row.notes if note.startswith("an AUROC below one half")]
    assert bool(told) == any((each.auroc_high or 1) < 0.5 for each in row.directions)
    assert not any(note in told for note in db.concepts.add(asked(name="pairs")).notes)


def test_notes_say_what_a_reader_should_know(db: FeatureDB) -> None:
    long = "river " * 200
    row = db.concepts.add(asked(positive=(long, "a", "a"), negative=("b", "c"), method="pca"))
    assert row.notes == (
        "the sides are not paired: pca of both sides about their midpoint",
        "1 of 5 texts are longer than 128 tokens: cut, none left out",
        "1 texts repeat others of their side; they count each time",
    )
    single = db.concepts.add(asked(name="single", positive=("yes",), negative=("no",)))
    assert single.notes == ("too few texts to leave any out: no held-out AUROC",)
    assert single.auroc is None
    assert single.directions[0].n_held_out is None


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"positive": ()}, BadInput, "there is no positive text"),
        ({"negative": ()}, BadInput, "there is no negative text"),
        ({"positive": ("x", LOWER[0])}, BadInput, "is both positive and negative"),
        ({"positive": ("a",), "method": "pca"}, BadInput, "pca needs 2 different positive texts, and was given 1"),
        ({"negative": ("a", "b"), "method": "lda"}, BadInput, "lda needs 3 different negative texts, and was given 2"),
        ({"negative": ("a", "b", "b"), "method": "probe"}, BadInput, "probe needs 3 different negative texts"),
        ({"model": "./nowhere/at/all"}, NotFound, "no model at"),
        ({"hooks": ("layers.9.resid_post",)}, NotFound, "model has no hook 'layers.9.resid_post'"),
        ({"layers": (3,)}, NotFound, "model has no layer 3"),
        ({"chat": True}, BadInput, "has no chat template"),
        (
            {"positive": ("1 dog",), "negative": ("2 dog",), "hooks": ("embed",)},
            BadInput,
            "embed: mean-difference finds no",
        ),
        ({"positive": ("nowhere/file.txt",)}, NotFound, "no file at nowhere/file.txt"),
        ({"running": Running(device="tpu")}, BadInput, "no device 'tpu'"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_kept(
    db: FeatureDB, changed: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        db.concepts.add(asked(**changed))
    assert counts(db) == (0, 0, 0)


def counts(db: FeatureDB) -> tuple[int, ...]:
    with db.store.reading() as session:
        tables = (ConceptRow, ConceptDirectionRow, ConceptTextRow)
        return tuple(session.scalar(select(func.count()).select_from(table)) or 0 for table in tables)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "a b"}, "'a b' cannot name a concept"),
        ({"name": "../up"}, "cannot name a concept"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"token": "first"}, "no choice of tokens 'first'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_requests_that_make_no_sense_are_refused_at_once(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        asked(**changed)


@pytest.mark.parametrize("text", ["", "a", "3-", "7-5", "1,,2", "-1", "1-99999999"])
def test_layers_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="names no layers"):
        parse_layers(text)


def test_layers_are_ranges_and_lists() -> None:
    assert parse_layers("3,5, 7-9,8") == (3, 5, 7, 8, 9)


def test_a_taken_name_is_refused_before_anything_runs_unless_it_is_to_be_replaced(db: FeatureDB) -> None:
    db.concepts.add(asked())
    with pytest.raises(BadInput, match="there is a concept 'caps' already"):
        db.concepts.add(asked(model="./nowhere/at/all"))
    row = db.concepts.add(asked(positive=("A", "B"), negative=("c",), replace=True))
    assert (row.n_positive, row.n_negative) == (2, 1)
    assert counts(db) == (1, 2, 3)
    db.concepts.rm("caps")
    assert counts(db) == (0, 0, 0)


def test_an_interrupted_making_leaves_the_catalog_as_it_was(db: FeatureDB) -> None:
    before = db.concepts.add(asked())

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        db.concepts.add(asked(positive=("A", "B"), replace=True), stop)
    assert db.concepts.get("caps") == before


def test_an_interruption_while_it_is_kept_leaves_the_old_one(db: FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.concepts import catalog

    before = db.concepts.add(asked())

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "record", stop)
    with pytest.raises(KeyboardInterrupt):
        db.concepts.add(asked(positive=("A", "B"), replace=True))
    monkeypatch.undo()
    assert db.concepts.get("caps") == before


def test_another_model_in_the_same_place_is_refused(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", num_hidden_layers=1)
    dictionary = random_dictionary(tmp_path / "top", layer=0)
    with featuredb.open(tmp_path / "store.fdb", create=True) as db:
        db.ingest(request(model, [dictionary], save_corpus(tmp_path / "corpus.jsonl", texts(6))))
        save_model(model, num_hidden_layers=1, seed=5)
        with pytest.raises(BadInput, match="is not the one the store knows as 'model'"):
            db.concepts.add(asked())


def test_a_store_of_several_models_wants_one_named(folder: Path, tmp_path: Path) -> None:
    with featuredb.open(tmp_path / "store.fdb", create=True) as db:
        corpus = save_corpus(tmp_path / "corpus.jsonl", texts(6))
        with pytest.raises(NotFound, match="the store has no model yet"):
            db.concepts.add(asked())
        for name in ("one", "two"):
            model = save_model(tmp_path / name, num_hidden_layers=1, seed=len(name) + ord(name[0]))
            db.ingest(request(model, [random_dictionary(tmp_path / f"d-{name}", layer=0)], corpus))
        with pytest.raises(BadInput, match="the store has 2 models that may be meant: one .*, two "):
            db.concepts.add(asked())
        assert db.concepts.add(asked(model="two")).model == "two"
        assert db.concepts.add(asked(name="by-path", model=str(tmp_path / "one"))).model == "one"


def test_vectors_are_read_of_names_files_and_numbers(db: FeatureDB, tmp_path: Path) -> None:
    db.concepts.add(asked())
    vector = np.arange(1, WIDTH + 1, dtype=np.float32)
    np.save(tmp_path / "v.npy", vector)
    assert read_vectors(db.store, str(tmp_path / "v.npy")).by_hook[""].tolist() == vector.tolist()
    assert list(read_vectors(db.store, tmp_path / "v.npy", hook="blocks.1.hook_resid_post").by_hook) == [
        "layers.1.resid_post"
    ]
    assert read_vectors(db.store, [1, 2, 3]).by_hook[""].tolist() == [1, 2, 3]
    same = read_vectors(db.store, "caps", hook="layers.1.resid_pre")  # what layer 0 gives
    assert list(same.by_hook) == ["layers.1.resid_pre"]
    for wrong, kind, said in (
        ("cap", NotFound, "no concept or file called 'cap'"),
        (tmp_path / "none.npy", NotFound, "no file at"),
        ([0, 0], BadInput, "the vector is zero"),
        ([[1, 2]], BadInput, "the vector has shape"),
        (["a"], BadInput, "not numbers"),
        ([[1], [1, 2]], BadInput, "not a row of numbers"),
    ):
        with pytest.raises(kind, match=said):
            read_vectors(db.store, wrong)
    with pytest.raises(NotFound) as caught:
        read_vectors(db.store, "cap")
    assert caught.value.hint == "did you mean 'caps'?"
    with pytest.raises(NotFound, match=r"'caps' has no vector at layers\.1\.mlp_out"):
        read_vectors(db.store, "caps", hook="layers.1.mlp_out")


SENTENCES = """The cat sat on the mat and watched the rain.
Please return the form before the end of the week.
A new version of the module was released today.
The list is sorted in place and nothing is returned.
He opened the window because the room was hot.
This function raises an error when the file is missing.
We will meet again at the station tomorrow.
The value must be a positive integer.
She wrote the answer on the board.
Reading the manual takes less time than guessing.
The server did not respond to the request.
Every object has a type and a value.
They walked along the river until it was dark.
The default encoding depends on the platform.
Nobody knew where the key had been hidden.
The result is written to the standard output.
It was the best summer in many years.
Use a context manager to close the connection.
The train leaves from the second platform.
An empty string is considered false.""".splitlines()


@pytest.mark.skipif(not (DEMO / "model.safetensors").is_file(), reason="the demo's files are not built yet")
@pytest.mark.parametrize(
    ("method", "token"), [("mean-difference", "last"), ("lda", "mean"), ("probe", "all"), ("pca", "mean")]
)
def test_capitals_are_told_from_small_letters_in_the_demos_model(tmp_path: Path, method: Any, token: Any) -> None:
    request = ConceptRequest(
        name="all-caps",
        positive=tuple(map(str.upper, SENTENCES)),
        negative=tuple(SENTENCES),
        model=str(DEMO),
        hooks=("layers.2.resid_post",),
        method=method,
        token=token,
        running=CPU,
    )
    with featuredb.open(tmp_path / "store.fdb", create=True) as db:
        row = db.concepts.add(request)
    assert row.auroc is not None
    assert row.auroc > 0.9
