"""The demo: what is shipped is as its cards say, and the short tour runs on it."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from featuredb.errors import NotFound
from featuredb.progress import Progress
from featuredb.records import Tour

SHIPPED = Path(str(files("featuredb.demo")))
MODEL = SHIPPED / "featuredb-demo"
DICTIONARY = SHIPPED / "dictionary"
ROOT = Path(__file__).resolve().parents[1]
TEN_MEGABYTES = 10_000_000
N_TOKENS = 20_000

shipped = pytest.mark.skipif(not (MODEL / "model.safetensors").is_file(), reason="the demo's files are not built yet")


def figures(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tour]:
    from featuredb.demo import run_demo

    path = tmp_path_factory.mktemp("demo") / "demo.fdb"
    return path, run_demo(path, train=False, progress=lambda _: None, n_tokens=N_TOKENS)


@shipped
def test_the_shipped_model_is_at_most_ten_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= TEN_MEGABYTES


@shipped
def test_the_model_beats_both_n_grams_clearly() -> None:
    found = figures(MODEL)
    assert found["model_loss"] < found["5-gram_loss"] - 0.1 < found["bigram_loss"] - 0.1
    assert found["held_out_tokens"] > 100_000


@shipped
def test_the_dictionary_recovers_the_loss_and_is_alive() -> None:
    found = figures(DICTIONARY)
    assert found["recovered"] >= 0.9
    assert found["dead"] <= 0.1
    assert found["variance_explained"] >= 0.8
    gap = found["loss_zero"] - found["loss_clean"]
    assert found["recovered"] == pytest.approx((found["loss_zero"] - found["loss_dictionary"]) / gap)


@shipped
@pytest.mark.parametrize(("folder", "card"), [(MODEL, "model_card"), (DICTIONARY, "dictionary_card")])
def test_a_card_says_what_its_figures_say(folder: Path, card: str) -> None:
    assert (folder / "README.md").read_text(encoding="utf-8") == getattr(script("card"), card)(figures(folder))


@shipped
def test_the_tokenizer_gives_every_text_back() -> None:
    from featuredb.model import load_model

    model = load_model(str(MODEL), device="cpu")
    assert (model.name, model.n_layers, model.d_model, model.max_length) == ("featuredb-demo", 4, 256, 256)
    for text in ("def f(x):\n\treturn x  # Größe", " Leading", "ALL caps 🐍\r\n\n", "<|endoftext|>"):
        assert model.tokenizer.decode(model.encode_text(text)) == text


@shipped
def test_the_dictionary_meets_the_model_and_says_how_it_was_trained() -> None:
    from featuredb.dictionary import load_dictionary
    from featuredb.model import load_model

    (dictionary,) = load_dictionary(f"saelens:{DICTIONARY}")
    model = load_model(str(MODEL), device="cpu")
    assert model.resolve_hook(dictionary.hook) == "layers.2.resid_post"
    assert (dictionary.d_in, dictionary.n_features) == (model.hook_width(dictionary.hook), 2048)
    trained = dictionary.trained
    assert (trained.model, trained.context_length, trained.prepend_bos) == ("featuredb-demo", 256, True)


@shipped
def test_the_tour_is_one_text_and_two_cards(demo: tuple[Path, Tour]) -> None:
    _, tour = demo
    assert (tour.run.model, tour.run.dictionaries, tour.run.n_tokens) == ("featuredb-demo", ("demo",), N_TOKENS)
    assert tour.run.notes == ()
    assert len(tour.fired) > 5
    assert [card.feature for card in tour.cards][0] == tour.fired[0].feature
    assert len({card.feature for card in tour.cards}) == 2
    for card in tour.cards:
        assert card.model == "featuredb-demo"
        assert card.promoted


@shipped
def test_a_second_demo_runs_nothing_again(demo: tuple[Path, Tour]) -> None:
    from featuredb.demo import run_demo

    path, tour = demo
    reports: list[Progress] = []
    assert run_demo(path, train=False, progress=reports.append, n_tokens=N_TOKENS) == tour
    assert reports == []


@shipped
def test_the_demo_store_is_whole(demo: tuple[Path, Tour]) -> None:
    import featuredb

    with featuredb.open(demo[0]) as db:
        assert db.check() == []


@shipped
def test_a_dictionary_trained_by_the_demo_lies_beside_the_shipped_one(
    demo: tuple[Path, Tour], monkeypatch: pytest.MonkeyPatch
) -> None:
    from featuredb.capture.request import CorpusRequest, TrainRequest
    from featuredb.demo import tour

    whole = tour.training

    def short(model: Path, out: Path) -> TrainRequest:
        from dataclasses import replace

        return replace(whole(model, out), corpus=CorpusRequest("python-docs", 8192), n_features=64, k=8)

    monkeypatch.setattr(tour, "training", short)
    monkeypatch.setattr("featuredb.capture.train.BUFFER_BYTES", 1 << 22)
    path, _ = demo
    trained = tour.run_demo(path, train=True, progress=lambda _: None, n_tokens=2000)
    assert trained.run.dictionaries == ("demo-trained",)
    assert (path.parent / "demo-trained" / "cfg.json").is_file()


def test_without_its_files_the_demo_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from featuredb.demo import tour

    monkeypatch.setattr(tour, "files", lambda _: tmp_path)
    with pytest.raises(NotFound, match=r"has no model\.safetensors") as error:
        tour.run_demo(tmp_path / "demo.fdb", train=False, progress=lambda _: None)
    assert error.value.hint is not None
    assert not (tmp_path / "demo.fdb").exists()


@pytest.fixture(scope="module")
def ngrams() -> ModuleType:
    return script("ngrams")


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_n_gram_probabilities_sum_to_one(ngrams: ModuleType, order: int) -> None:
    draw = np.random.default_rng(0)
    model = ngrams.NGramModel(draw.integers(0, 7, 400), order, vocabulary=7, separator=0)
    grams = ngrams.windows(draw.integers(0, 7, 60), order, 0)
    each = [model.probabilities(np.column_stack([grams[:, :-1], np.full(len(grams), word)])) for word in range(7)]
    assert np.min(each) > 0
    assert np.sum(each, axis=0) == pytest.approx(1.0)


def test_n_gram_histories_stop_at_a_document(ngrams: ModuleType) -> None:
    assert ngrams.windows(np.array([5, 6, 0, 3, 4]), 3, 0).tolist() == [
        [0, 0, 5],
        [0, 5, 6],
        [5, 6, 0],
        [0, 0, 3],
        [0, 3, 4],
    ]


def test_a_bigram_model_is_the_textbook_one(ngrams: ModuleType) -> None:
    # a b a b a c: no count of 3 or 4, so every discount is a half.
    model = ngrams.NGramModel(np.array([1, 2, 1, 2, 1, 3]), 2, vocabulary=4, separator=0)
    # Predecessors: of a two (opening, b), of b one, of c one; 4 bigram types in all.
    unigram = (np.array([0, 2, 1, 1]) - [0, 0.5, 0.5, 0.5]) / 4 + 1.5 / 4 / 4
    # After a: b twice, c once.
    wanted = (np.array([0, 0, 1.5, 0.5]) + 1.0 * unigram) / 3
    found = model.probabilities(np.array([[1, word] for word in range(4)]))
    assert found == pytest.approx(wanted)


def script(name: str) -> ModuleType:
    """A module of benchmarks/demo_model that needs nothing beside it."""
    spec = importlib.util.spec_from_file_location(f"demo_model_{name}", ROOT / "benchmarks/demo_model" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
