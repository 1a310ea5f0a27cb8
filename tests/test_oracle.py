"""A whole ingest against brute force: plain transformers, sae-lens's own encode and numpy, for both packings.

Weights are random, but every bias lies in a gap between pre-activations, so that no last bit of a float decides
whether a feature fires; what is compared with tolerance is only what is a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

import featuredb
from featuredb.database import FeatureDB
from tests.oracle import BOS, RADIUS, Float32, Oracle, Row, hidden_states, in_widest_gap, row_hash, rows_by_hand
from tests.small_ingest import (
    CONTEXT_LENGTH,
    N_FEATURES,
    SETTINGS,
    Tensors,
    request,
    save_corpus,
    save_dictionary,
    save_model,
    tensors,
    texts,
)

# Dictionary, layer, architecture: three hooks in one pass, one of them read by two dictionaries.
WATCHED = {"top": (1, "topk"), "jump": (0, "jumprelu"), "plain": (2, "standard"), "gate": (2, "gated")}
# Run: packing, tokens, contexts in a batch. The last is the newest, which a card shows.
RUNS: dict[str, tuple[Any, int | None, int]] = {
    "document": ("document", None, 5),
    "concat": ("concat", 4000, 16),
    "other batches": ("concat", 4000, 3),
}
DOCUMENTS = [*texts(110), "one <|endoftext|> two " * 9, "<|endoftext|> opens this one", "", "x"]


@dataclass(frozen=True)
class World:
    """One store with every run in it, and what each run ought to hold."""

    db: FeatureDB
    keys: dict[str, str]
    """Run key by run."""
    oracles: dict[tuple[str, str], Oracle]
    """By run and dictionary."""
    model: Any
    tokenizer: Any
    folder: Path

    def table(self, run: str, dictionary: str, table: str) -> list[dict[str, Any]]:
        return rows_of(self.db.store.paths.segment(self.keys[run], dictionary), table)

    def contexts(self, run: str, table: str = "context") -> list[dict[str, Any]]:
        return rows_of(self.db.store.paths.contexts(self.keys[run]), table)

    def streams(self, run: str) -> list[int]:
        """By a context's number in the store, its row in the corpus."""
        return [context["stream_index"] for context in self.contexts(run)]

    def response(self, run: str, dictionary: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = load_file(self.db.store.paths.response(self.keys[run], dictionary))["response"]
        return found

    def moments(self, run: str, dictionary: str) -> dict[str, NDArray[np.float64]]:
        hook = f"layers.{WATCHED[dictionary][0]}.resid_post"
        return load_file(self.db.store.paths.moments(self.keys[run], hook))


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        cursor = connection.execute(f'select * from "{table}"')
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def conditioned(architecture: str, seed: int, x: Float32) -> Tensors:
    """Random weights whose biases and thresholds lie in gaps between the values that they decide."""
    weights = tensors(architecture, seed)
    pre = ((x - weights["b_dec"].numpy()) @ weights["W_enc"].numpy()).astype(np.float64)
    if architecture == "topk":  # has no such bias, so the weights themselves have to be lucky
        fifth, sixth = np.sort(pre + weights["b_enc"].numpy(), axis=1)[:, [-5, -6]].T
        lucky = min((fifth - sixth).min(), np.abs(fifth).min()) > 1e-5
        return weights if lucky else conditioned(architecture, seed + 100, x)
    gap = torch.tensor([in_widest_gap(column, 0.85) for column in pre.T], dtype=torch.float32)
    dead = torch.arange(N_FEATURES) == N_FEATURES - 1
    if architecture == "jumprelu":
        moved = {"b_enc": (0.3 - gap).masked_fill(dead, -1e4), "threshold": torch.full((N_FEATURES,), 0.3)}
    elif architecture == "standard":
        moved = {"b_enc": (-gap).masked_fill(dead, -1e4)}
    else:  # where its gate opens, the magnitude is above a half
        scale = torch.exp(weights["r_mag"])
        moved = {"b_gate": (-gap).masked_fill(dead, -1e4), "b_mag": 0.5 - scale * gap}
    return weights | moved


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("oracle")
    path = save_model(folder / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in DOCUMENTS]
    layers = sorted({layer for layer, _ in WATCHED.values()})
    rows: dict[str, list[Row]] = {}
    states: dict[str, dict[int, list[Float32]]] = {}
    for name in ("document", "concat"):
        rows[name] = rows_by_hand(ids, RUNS[name][0], CONTEXT_LENGTH, RUNS[name][1])
        states[name] = hidden_states(model, rows[name], layers)
    rows["other batches"], states["other batches"] = rows["concat"], states["concat"]

    for seed, (name, (layer, architecture)) in enumerate(WATCHED.items()):
        every = np.concatenate([state for run in ("document", "concat") for state in states[run][layer]])
        save_dictionary(folder / name, architecture, layer, conditioned(architecture, seed, every))

    corpus = save_corpus(folder / "corpus.jsonl", DOCUMENTS)
    keys: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch, featuredb.open(folder / "store.fdb", create=True) as db:
        patch.setattr("featuredb.capture.loop.BLOCK_ROWS", 600)
        for run, (packing, n_tokens, batch_size) in RUNS.items():
            asked = request(
                path,
                [folder / name for name in WATCHED],
                corpus,
                n_tokens=n_tokens,
                packing=packing,
                batch_size=batch_size,
            )
            keys[run] = db.ingest(asked).run
        oracles = {
            (run, name): Oracle.make(rows[run], states[run][layer], folder / name)
            for run in RUNS
            for name, (layer, _) in WATCHED.items()
        }
        yield World(db, keys, oracles, model, tokenizer, folder)


each_run = pytest.mark.parametrize("run", RUNS)
each_dictionary = pytest.mark.parametrize("name", WATCHED)


@each_run
def test_the_run_counts_every_token_once_and_no_special_or_padding_token(world: World, run: str) -> None:
    oracle = world.oracles[run, "top"]
    (row,) = [row for row in world.db.ls("runs") if row.run == world.keys[run]]
    assert (row.n_tokens, row.n_contexts) == (len(oracle.acts), len(oracle.rows))
    assert row.n_tokens == sum(place.token != BOS for line in oracle.rows for place in line)
    if RUNS[run][1] is None:
        assert row.n_tokens == sum(
            token != BOS for text in DOCUMENTS for token in world.tokenizer(text, add_special_tokens=False)["input_ids"]
        )
    else:
        assert row.n_tokens == RUNS[run][1]


@each_run
@each_dictionary
def test_figures_of_every_feature(world: World, run: str, name: str) -> None:
    oracle = world.oracles[run, name]
    found = world.table(run, name, "feature")
    assert [row["feature"] for row in found] == list(range(N_FEATURES))
    assert [row["n_fires"] for row in found] == (oracle.acts > 0).sum(axis=0).tolist()
    assert [row["n_contexts"] for row in found] == oracle.n_contexts.tolist()
    assert 30 < sum(row["n_fires"] > 0 for row in found) < N_FEATURES
    for row in found:
        values = oracle.firing(row["feature"])
        assert row["density"] == len(values) / len(oracle.acts)
        if not len(values):
            assert (row["max"], row["mean"], row["m2"], sum(row["histogram"])) == (0, 0, 0, 0)
            continue
        assert row["max"] == pytest.approx(values.max(), rel=1e-5)
        assert row["mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert row["m2"] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-4)
        # A value on a bin's edge may fall on either side of it.
        below = np.cumsum(row["histogram"])
        assert below[-1] == len(values)
        assert (np.cumsum(oracle.histogram(row["feature"], 1e-5)) <= below).all()
        assert (below <= np.cumsum(oracle.histogram(row["feature"], -1e-5))).all()


@each_run
@each_dictionary
@pytest.mark.parametrize("kind", [0, 1], ids=["top", "sample"])
def test_examples_of_every_feature(world: World, run: str, name: str, kind: int) -> None:
    oracle, streams = world.oracles[run, name], world.streams(run)
    found: dict[int, list[dict[str, Any]]] = {feature: [] for feature in range(N_FEATURES)}
    for row in world.table(run, name, "example"):
        if row["kind"] == kind:
            found[row["feature"]].append(row)
    n_compared = 0
    for feature, examples in found.items():
        rows = [streams[example["context"]] for example in examples]
        if kind == 0:
            assert_strongest(oracle, feature, rows)
        else:
            assert rows == oracle.sampled(feature, SETTINGS.n_samples, SETTINGS.seed)
        assert [example["rank"] for example in examples] == list(range(len(rows)))
        for example, row in zip(examples, rows, strict=True):
            peak = int(oracle.dense[row, :, feature].argmax())
            assert example["position"] == peak
            assert example["activation"] == pytest.approx(oracle.dense[row, peak, feature], rel=1e-5, abs=1e-5)
            start, shares = oracle.window(feature, row, peak)
            assert (example["window_start"], len(example["window"])) == (start, len(shares))
            assert np.abs(np.array(list(example["window"])) - np.array(shares)).max() <= 1
            assert [share > 0 for share in example["window"]] == [share > 0 for share in shares]
            n_compared += 1
    assert n_compared > 300


def assert_strongest(oracle: Oracle, feature: int, rows: list[int]) -> None:
    """That these are the rows of the largest peaks, in order. Rows that open alike have peaks that are equal but for
    their last bit, which depends on the batch they ran in: those may change places, and only those."""
    expected = oracle.strongest(feature, SETTINGS.n_examples)
    peaks = oracle.peaks[:, feature]
    assert len(set(rows)) == len(expected)
    np.testing.assert_allclose(peaks[rows], peaks[expected], rtol=2e-6)
    if len(expected) == SETTINGS.n_examples:
        assert set(np.flatnonzero(peaks > peaks[expected[-1]] * (1 + 2e-6))) <= set(rows)


@each_run
@each_dictionary
def test_the_panel_holds_every_firing_of_the_contexts_of_smallest_hash(world: World, run: str, name: str) -> None:
    oracle, contexts = world.oracles[run, name], world.contexts(run)
    chosen = sorted(range(len(oracle.rows)), key=lambda row: row_hash(SETTINGS.seed, row))[: SETTINGS.n_panel]
    assert [context["stream_index"] for context in contexts if context["on_panel"]] == sorted(chosen)
    expected = {
        (feature, row, position): float(oracle.dense[row, position, feature])
        for row in chosen
        for position, feature in zip(*np.nonzero(oracle.dense[row]), strict=True)
    }
    found = {
        (row["feature"], contexts[row["context"]]["stream_index"], row["position"]): row["activation"]
        for row in world.table(run, name, "panel")
    }
    assert list(found) == sorted(expected)
    for key, activation in found.items():
        assert activation == pytest.approx(expected[key], rel=1e-5, abs=1e-5)


@each_run
def test_kept_contexts_hold_the_rows_tokens_and_documents(world: World, run: str) -> None:
    rows = world.oracles[run, "top"].rows
    contexts = world.contexts(run)
    assert [context["context"] for context in contexts] == list(range(len(contexts)))
    for context in contexts:
        row = rows[context["stream_index"]]
        assert context["tokens"] == [place.token for place in row]
        pieces = list(
            zip(
                *(context[f"piece_{what}"] for what in ("starts", "ends", "documents", "offsets")),
                strict=True,
            )
        )
        expected = []
        for document in dict.fromkeys(place.document for place in row if place.document >= 0):
            mine = [position for position, place in enumerate(row) if place.document == document]
            expected.append((mine[0], mine[-1] + 1, document, row[mine[0]].offset))
        assert pieces == expected
    named = {context["document"]: context["name"] for context in world.contexts(run, "document")}
    assert named == {number: f"corpus.jsonl:{number + 1}" for number in named}
    assert set(named) == {document for context in contexts for document in context["piece_documents"]}


@each_run
def test_only_contexts_that_something_speaks_of_are_kept(world: World, run: str) -> None:
    spoken = {context["context"] for context in world.contexts(run) if context["on_panel"]}
    for name in WATCHED:
        spoken |= {row["context"] for row in world.table(run, name, "example")}
    assert spoken == {context["context"] for context in world.contexts(run)}


def test_every_token_has_its_text(world: World) -> None:
    texts_of = [row["text"] for row in world.contexts("concat", "token")]
    for token, text in enumerate(texts_of):
        said = world.tokenizer.decode([token])
        if said.isascii() and said.isprintable():
            assert text == said
    assert len(texts_of) == len(world.tokenizer)


@each_run
@each_dictionary
def test_moments_and_response_directions(world: World, run: str, name: str) -> None:
    oracle, moments = world.oracles[run, name], world.moments(run, name)
    assert moments["n"] == len(oracle.x)
    np.testing.assert_allclose(moments["mean"], oracle.x.astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments["covariance"], oracle.covariance(), rtol=1e-4, atol=1e-5)
    expected = np.stack([oracle.response(feature) for feature in range(N_FEATURES)])
    np.testing.assert_allclose(world.response(run, name), expected, rtol=1e-4, atol=1e-5)


@each_run
@each_dictionary
def test_any_read_outs_correlation_is_pearsons(world: World, run: str, name: str) -> None:
    oracle = world.oracles[run, name]
    covariance, response = world.moments(run, name)["covariance"], world.response(run, name)
    alive = (oracle.acts > 0).any(axis=0)
    for read_out in np.random.default_rng(3).normal(size=(5, oracle.x.shape[1])):
        closed = response @ read_out / np.sqrt(read_out @ covariance @ read_out)
        brute = np.corrcoef(oracle.x.astype(np.float64) @ read_out, oracle.acts[:, alive].T.astype(np.float64))[0, 1:]
        np.testing.assert_allclose(closed[alive], brute, atol=1e-4)
        assert (closed[~alive] == 0).all()


@each_dictionary
def test_promoted_and_suppressed_tokens(world: World, name: str) -> None:
    transformer, head = world.model.transformer, world.model.lm_head
    gained = (transformer.ln_f.weight[:, None] * head.weight.T).detach().double()
    decoder = load_file(world.folder / name / "sae_weights.safetensors")["W_dec"].astype(np.float64)
    logits = decoder @ (gained - gained.mean(dim=0)).numpy()  # a layer norm takes the mean out
    for row in world.table("concat", name, "feature"):
        ordered = np.sort(logits[row["feature"]])
        for column, expected in (("promoted", ordered[::-1][:10]), ("suppressed", ordered[:10])):
            np.testing.assert_allclose(row[f"{column}_values"], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(logits[row["feature"], row[column]], expected, rtol=1e-4, atol=1e-5)


@each_dictionary
def test_a_card_shows_no_token_of_another_document(world: World, name: str) -> None:
    run = "other batches"
    oracle, streams = world.oracles[run, name], world.streams(run)
    told = [row["text"] for row in world.contexts(run, "token")]
    n_cut = 0
    for feature in range(N_FEATURES):
        for example in world.db.feature(f"{name}/{feature}", n_examples=24).examples:
            row = streams[example.context]
            low, high = oracle.document_bounds(row, example.position)
            places = range(max(low, example.position - RADIUS), min(high, example.position + RADIUS + 1))
            n_cut += len(places) < min(len(oracle.rows[row]), 2 * RADIUS + 1) - 1
            assert example.tokens == tuple(told[oracle.rows[row][place].token] for place in places)
            assert example.document == f"corpus.jsonl:{oracle.rows[row][example.position].document + 1}"
            expected = oracle.dense[row, places.start : places.stop, feature]
            np.testing.assert_allclose(example.activations, expected, atol=1.01 * float(expected.max()) / 255)
    assert n_cut > 300


@each_dictionary
def test_two_batch_sizes_agree(world: World, name: str) -> None:
    one, other = (world.table(run, name, "feature") for run in ("concat", "other batches"))
    for ours, theirs in zip(one, other, strict=True):
        for column, value in theirs.items():
            if column in ("max", "mean", "m2"):
                assert ours[column] == pytest.approx(value, rel=1e-4)
            elif column != "histogram":
                assert ours[column] == value, column
    for table in ("example", "panel"):
        ours_all, theirs_all = world.table("concat", name, table), world.table("other batches", name, table)
        assert len(ours_all) == len(theirs_all)
        for ours, theirs in zip(ours_all, theirs_all, strict=True):
            assert ours["activation"] == pytest.approx(theirs["activation"], rel=1e-5, abs=1e-5)
            # Which of two equal peaks comes first may turn on a last bit; what the hash chooses may not.
            if table == "panel" or ours["kind"] == 1:
                for column in ours.keys() - {"activation", "window"}:
                    assert ours[column] == theirs[column], column
    np.testing.assert_allclose(
        world.response("concat", name), world.response("other batches", name), rtol=1e-4, atol=1e-5
    )


def test_the_hash_is_the_published_splitmix64() -> None:
    """Its first outputs from the state 1234567, as Java's SplittableRandom and others print them."""
    from tests.oracle import mix

    step = 0x9E3779B97F4A7C15
    found = [mix(1234567 + step * n) for n in range(5)]
    assert found == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_the_store_of_all_runs_is_whole(world: World) -> None:
    assert world.db.check() == []
    assert len(world.db.ls("dictionaries")) == len(WATCHED)
