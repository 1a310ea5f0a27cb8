"""Ingests that cannot be: each is refused in one line with a hint and its exit status, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import pickle
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import featuredb
from featuredb.cli.main import main
from tests.oracle import rows_by_hand
from tests.small_ingest import (
    CONTEXT_LENGTH,
    command,
    files_below,
    random_dictionary,
    save_corpus,
    save_dictionary,
    save_parts,
    tensors,
    texts,
)

RARE = "~"
"""A character that is a token of its own, and in no text but where a test puts it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, two dictionaries, a corpus and a store of one run; not to be changed."""
    folder = tmp_path_factory.mktemp("bad")
    save_parts(folder)
    random_dictionary(folder / "jump", "jumprelu", 1)
    said = CliRunner().invoke(main, [*command(folder), "--db", str(folder / "store.fdb")])
    assert said.exit_code == 0, said.stderr
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of that store, a test's own."""
    return shutil.copytree(made / "store.fdb", tmp_path / "store.fdb")


def refused(store: Path, words: list[str], status: int) -> tuple[str, str]:
    """The message and hint of a command that must fail with a status, on an existing store and on none; nothing may
    be left of it in either."""
    before = files_below(store)
    answer = said(words, store, status)
    assert files_below(store) == before
    with featuredb.open(store) as db:
        assert list(db.check()) == []
    nowhere = store.with_name("new.fdb")
    assert said(words, nowhere, status) == answer
    assert not nowhere.exists() or files_below(nowhere) == []
    assert [path for path in store.parent.iterdir() if path.name.endswith(".new")] == []
    return answer


def said(words: list[str], store: Path, status: int) -> tuple[str, str]:
    """What a failing command says on stderr, once as text and once as JSON."""
    text = CliRunner().invoke(main, [*words, "--db", str(store), "--quiet"])
    assert (text.exit_code, text.stdout) == (status, ""), text.output
    lines = text.stderr.splitlines()
    assert [line[:7] for line in lines[:1]] == ["Error: "], text.stderr
    assert len(lines) == 2, text.stderr
    assert lines[1].startswith("  ")
    answer = CliRunner().invoke(main, [*words, "--db", str(store), "--json"])
    assert (answer.exit_code, answer.stdout) == (status, "")
    error = json.loads(answer.stderr)["error"]
    assert (f"Error: {error['message']}", f"  {error['hint']}") == (lines[0], lines[1])
    return error["message"], error["hint"]


# What is not there


def test_no_such_model(made: Path, store: Path) -> None:
    message, hint = refused(store, command(made, model=made / "modle"), 4)
    assert "modle" in message
    assert hint == "did you mean 'model'?"
    message, hint = refused(store, command(made, model="no-such/model-anywhere"), 4)
    assert message.startswith("no model 'no-such/model-anywhere'")
    assert "HF_HUB_OFFLINE" in hint


def test_no_such_dictionary(made: Path, store: Path) -> None:
    message, hint = refused(store, command(made, dictionary=f"saelens:{made / 'topp'}"), 4)
    assert message == f"no folder {str(made / 'topp')!r}"
    assert hint == "did you mean 'top'?"
    message, hint = refused(store, command(made, dictionary=f"saelense:{made / 'top'}"), 4)
    assert "saelense" in message
    assert "'saelens'" in hint


def test_no_such_corpus(made: Path, store: Path) -> None:
    message, hint = refused(store, command(made, corpus=made / "corpse.jsonl"), 4)
    assert message == f"no file or folder {str(made / 'corpse.jsonl')!r}"
    assert "'corpus.jsonl'" in hint
    message, hint = refused(store, command(made, corpus=f"jsonll:{made / 'corpus.jsonl'}"), 4)
    assert "'jsonl'" in hint


@pytest.mark.parametrize(
    ("hook", "hint"),
    [
        ("layers.1.resid_pst", "did you mean 'layers.1.resid_post'"),
        ("layers.2.resid_post", "it has embed and layers.0 to layers.1"),
        ("blocks.7.hook_resid_post", "it has embed and layers.0 to layers.1"),
    ],
)
def test_no_such_hook(made: Path, store: Path, hook: str, hint: str) -> None:
    message, said_hint = refused(store, command(made, hook=hook), 4)
    assert message == f"model has no hook {hook!r}"
    assert said_hint.startswith(hint)


@pytest.mark.parametrize(
    ("feature", "status", "message", "hint"),
    [
        ("topp/3", 4, "no dictionary called 'topp'", "did you mean 'top'?"),
        ("top/48", 4, "no feature 48 in 'top'", "it has features 0 to 47"),
        ("top", 3, "'top' does not name a feature", "write dictionary/index, such as gpt2-8-res-jb/1234"),
    ],
)
def test_no_such_feature(store: Path, feature: str, status: int, message: str, hint: str) -> None:
    text = CliRunner().invoke(main, ["show", feature, "--db", str(store)])
    assert (text.exit_code, text.stdout) == (status, "")
    assert text.stderr == f"Error: {message}\n  {hint}\n"


# Dictionaries that cannot be used


def test_a_width_that_does_not_meet_the_hooks(made: Path, store: Path, tmp_path: Path) -> None:
    narrow = save_dictionary(tmp_path / "narrow", "standard", 0, tensors("standard", 0, width=16))
    message, hint = refused(store, command(made, dictionary=narrow), 3)
    assert message == ("narrow reads vectors of width 16, but layers.0.resid_post of model has width 32")
    assert hint.startswith("was it trained on another model?")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(made: Path, store: Path, tmp_path: Path, value: float) -> None:
    weights = tensors("topk", 0)
    weights["W_enc"][3, 11] = value
    message, hint = refused(store, command(made, dictionary=save_dictionary(tmp_path / "nan", "topk", 0, weights)), 3)
    assert message == "nan: w_enc row 3 is not finite"
    assert hint


def test_weights_that_are_cut_short(made: Path, store: Path, tmp_path: Path) -> None:
    folder = random_dictionary(tmp_path / "cut")
    file = folder / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    message, _ = refused(store, command(made, dictionary=folder), 3)
    assert message.startswith(f"{file} is not a whole safetensors file")


def test_weights_of_the_wrong_shape(made: Path, store: Path, tmp_path: Path) -> None:
    folder = save_dictionary(tmp_path / "turned", "topk", 0, tensors("topk", 0) | {"W_dec": torch.zeros(32, 48)})
    message, hint = refused(store, command(made, dictionary=folder), 3)
    assert "W_dec has shape (32, 48)" in message
    assert hint == "is it transposed?"


class Bomb:
    """What unpickles by writing a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "opened")))
    assert (tmp_path / "opened").exists()


@pytest.mark.parametrize("name", ["sae_weights.pt", "sae_weights.bin", "sae_weights.pkl", "sae_weights.safetensors"])
def test_pickled_dictionaries_are_refused_unread(made: Path, store: Path, tmp_path: Path, name: str) -> None:
    folder = random_dictionary(tmp_path / "pickled")
    (folder / "sae_weights.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    for spec in (f"saelens:{folder}", f"saelens:{folder / name}", str(folder)):
        message, _ = refused(store, command(made, dictionary=spec), 3)
        assert name in message
    assert not (tmp_path / "opened").exists()


def test_a_pickled_model_is_refused_unread(made: Path, store: Path, tmp_path: Path) -> None:
    model = shutil.copytree(made / "model", tmp_path / "pickled")
    (model / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Bomb(tmp_path / "opened")}, model / "pytorch_model.bin")
    message, hint = refused(store, command(made, model=model), 3)
    assert "pickled" in message
    assert "safetensors" in hint
    assert not (tmp_path / "opened").exists()


def test_other_weights_under_a_name_that_is_taken(made: Path, store: Path, tmp_path: Path) -> None:
    other = random_dictionary(tmp_path / "top", seed=9)
    before = files_below(store)
    message, hint = said(command(made, dictionary=other), store, 3)
    assert message == "the store has another dictionary called 'top', with other weights"
    assert hint == "give this one a --name, or `featuredb rm dictionary top` first"
    assert files_below(store) == before
    named = CliRunner().invoke(main, [*command(made, dictionary=other, name="other"), "--db", str(store)])
    assert named.exit_code == 0, named.stderr


def test_settings_that_do_not_fit_the_model(made: Path, store: Path) -> None:
    message, hint = refused(store, command(made, context_length="500"), 3)
    assert message == "--context-length 500 is more than model reads, 128"
    assert hint
    message, hint = refused(store, command(made, device="cuda:77"), 3)
    assert message.startswith("no device 'cuda:77'")


# Text that cannot be used


def test_an_empty_corpus(made: Path, store: Path, tmp_path: Path) -> None:
    for number, documents in enumerate([[], ["", " \n"], ["<|endoftext|>"]]):
        corpus = save_corpus(tmp_path / f"{number}.jsonl", documents)
        message, hint = refused(store, command(made, corpus=corpus), 3)
        assert str(corpus) in message
        assert re.search("no text|no token that counts", message)
        assert hint


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Three good rows, of which the second stands between two bad ones."""
    rows = [json.dumps({"text": text}) for text in texts(3)]
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join([rows[0], '{"text": "half', rows[1], '{"body": 1}', rows[2]]) + "\n")
    return path


def test_a_broken_row_is_named_by_its_line(made: Path, store: Path, broken: Path) -> None:
    message, hint = refused(store, command(made, corpus=broken), 3)
    assert message.startswith(f"{broken}:2: not JSON")
    assert hint


def test_broken_rows_are_passed_over_and_counted(made: Path, store: Path, broken: Path) -> None:
    text = CliRunner().invoke(main, [*command(made, corpus=broken), "--skip-bad-rows", "--db", str(store), "--json"])
    assert text.exit_code == 0, text.stderr
    (row,) = json.loads(text.stdout)["rows"]
    assert any(note.startswith(f"2 rows of the corpus passed over; the first: {broken}:2") for note in row["notes"])
    good = save_corpus(broken.with_name("good.jsonl"), texts(3))
    text = CliRunner().invoke(main, [*command(made, corpus=good), "--db", str(store), "--json"])
    assert json.loads(text.stdout)["rows"][0]["n_tokens"] == row["n_tokens"]


@pytest.mark.parametrize("name", ["bytes.txt", "bytes.jsonl"])
def test_undecodable_bytes(made: Path, store: Path, tmp_path: Path, name: str) -> None:
    corpus = tmp_path / name
    good = b"a good line\n" if name.endswith("txt") else b'{"text": "a good line"}\n'
    corpus.write_bytes(good + b'{"text": "caf\xe9"}\n')
    message, hint = refused(store, command(made, corpus=corpus), 3)
    assert message.startswith(f"{corpus}:")
    assert "byte 0xe9 at offset" in message
    assert "is not utf-8" in message
    assert hint


# Models whose activations are no numbers


@pytest.mark.parametrize(("layer", "value"), [(0, float("nan")), (1, float("inf"))])
def test_activations_that_are_not_finite(made: Path, store: Path, tmp_path: Path, layer: int, value: float) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    model = shutil.copytree(made / "model", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    (rare,) = tokenizer(RARE)["input_ids"]
    weights = load_file(model / "model.safetensors")
    weights["transformer.wte.weight"][rare, 5] = value
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    documents = [*texts(9), f"here: {RARE}", "and after"]
    ids = [tokenizer(text)["input_ids"] for text in documents]
    rows = rows_by_hand(ids, "concat", CONTEXT_LENGTH, None)
    context = next(number for number, row in enumerate(rows) if rare in [place.token for place in row])
    corpus = save_corpus(tmp_path / "corpus.jsonl", documents)
    dictionary = made / ("top" if layer == 0 else "jump")
    message, hint = refused(store, command(made, model=model, dictionary=dictionary, corpus=corpus), 3)
    # Attention spreads it over the context: 0 times NaN is NaN.
    assert message.startswith(f"model: layers.{layer}.resid_post is not finite in context {context} at position ")
    assert "--dtype float32" in hint
    assert context > 2


# Stores that cannot be used


def test_a_run_that_another_process_is_doing(made: Path, store: Path) -> None:
    corpus = save_corpus(store.with_name("other.jsonl"), texts(12, seed=1))
    words = command(made, corpus=corpus)
    before = files_below(store)
    with featuredb.open(store) as db:
        key = plan_key(made, corpus)
        folder = db.store.paths.work_folder(key)
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        message, hint = said(words, store, 6)
    assert message == "another process is doing this very run"
    assert hint == "wait for it; the answer will be in the store"
    assert files_below(store) == sorted([*before, f"work/{key}/lock"])
    assert CliRunner().invoke(main, [*words, "--db", str(store)]).exit_code == 0
    assert not folder.exists()


def plan_key(made: Path, corpus: Path) -> str:
    """The key of the run that `command` asks for."""
    from featuredb.capture.ingest import prepare
    from featuredb.capture.request import CorpusRequest, IngestRequest, ModelRequest

    model = ModelRequest(str(made / "model"), batch_size=4)
    return prepare(IngestRequest(model, (str(made / "top"),), CorpusRequest(str(corpus)))).key


def test_a_store_of_a_newer_version(made: Path, store: Path) -> None:
    with sqlite3.connect(store / "catalog.sqlite") as connection:
        connection.execute("update alembic_version set version_num = '9999_of_tomorrow'")
    connection.close()
    for words in (command(made), ["show", "top/1"], ["check"]):
        text = CliRunner().invoke(main, [*words, "--db", str(store)])
        assert (text.exit_code, text.stdout) == (6, "")
        assert "newer" in text.stderr
        assert text.stderr.count("\n") == 2


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_no_store(made: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "letters"
    if what == "folder":
        path.mkdir()
        (path / "dear").write_text("Dear")
    else:
        path.write_text("Dear")
    for words in (command(made), ["show", "top/1"], ["check"]):
        text = CliRunner().invoke(main, [*words, "--db", str(path)])
        assert (text.exit_code, text.stdout) == (6, "")
        assert f"{path} is no store" in text.stderr
    assert sorted(found.name for found in tmp_path.rglob("*")) in (["dear", "letters"], ["letters"])
