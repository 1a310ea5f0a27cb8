"""Four processes ask while one ingests and commits run after run: no error, and no answer that mixes two states."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import featuredb
from featuredb.capture.request import CaptureSettings
from tests.small_ingest import N_FEATURES, random_dictionary, request, save_corpus, save_model, texts

N_READERS, N_RUNS = 4, 4

READER = """
import json, sys
from pathlib import Path
import featuredb

root, ready, stop = (Path(argument) for argument in sys.argv[1:])
answers = {"rounds": 0, "runs": [], "n_tokens": []}
db = featuredb.open(root)
while not stop.exists() or answers["rounds"] == 0:
    index = answers["rounds"] % 40
    runs = db.ls("runs")
    assert all(set(run.dictionaries) == {"top", "jump"} for run in runs), runs
    assert {row.dictionary for row in db.ls("dictionaries")} == {"top", "jump"}
    for name in ("top", "jump"):
        card = db.feature(f"{name}/{index}", n_examples=5)
        assert sum(bin.count for bin in card.histogram) == card.n_fires == round(card.density * card.n_tokens), card
        assert card.n_tokens in {run.n_tokens for run in db.ls("runs")}, card
        assert (card.n_fires > 0) == bool(card.examples)
        for example in card.examples:
            assert example.activation == example.activations[example.peak], example
            assert 0 < example.activation <= card.max_activation
    counts = db.sql("select run, dictionary, count(*) as n from feature group by all").to_pylist()
    assert all(row["n"] == 48 for row in counts), counts
    assert len(counts) >= 2 * len(runs), (counts, runs)
    by_run = [row["run"] for row in counts]
    assert all(by_run.count(run) == 2 for run in by_run), counts
    top = db.sql(
        "select count(*) as n from example join feature using (run, dictionary, feature) "
        "where example.kind = 0 and example.rank = 0 and example.activation <> feature.max"
    ).to_pylist()
    assert top == [{"n": 0}], top
    answers["rounds"] += 1
    answers["runs"].append(len(runs))
    answers["n_tokens"].append(card.n_tokens)
    if answers["rounds"] % 3 == 0:
        db.close()
        db = featuredb.open(root)
    ready.touch()
print(json.dumps(answers))
"""


def test_readers_are_never_disturbed(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", num_hidden_layers=2)
    dictionaries = [random_dictionary(tmp_path / "top", "topk", 0), random_dictionary(tmp_path / "jump", "jumprelu", 1)]
    corpora = [save_corpus(tmp_path / f"{i}.jsonl", texts(20 + 10 * i, seed=i)) for i in range(N_RUNS + 1)]
    stop, ready = tmp_path / "stop", [tmp_path / f"ready-{number}" for number in range(N_READERS)]
    with featuredb.open(tmp_path / "store.fdb", create=True) as db:
        n_tokens = [db.ingest(request(model, dictionaries, corpora[0])).n_tokens]
        readers = [start_reader(db.path, path, stop) for path in ready]
        try:
            wait_for(readers, ready)
            for number, corpus in enumerate(corpora[1:]):
                settings = CaptureSettings(n_samples=16, n_panel=20, seed=number)
                n_tokens.append(db.ingest(request(model, dictionaries, corpus, settings=settings)).n_tokens)
                db.add_label(f"top/{number}", "a label")
                time.sleep(0.3)
        finally:
            stop.touch()
            said = [reader.communicate(timeout=120) for reader in readers]
        assert [error for _, error in said] == [""] * N_READERS
        for out, _ in said:
            answers: dict[str, Any] = json.loads(out)
            assert answers["runs"] == sorted(answers["runs"])
            assert set(answers["n_tokens"]) <= set(n_tokens)
        assert max(max(json.loads(out)["runs"]) for out, _ in said) > 1, "no reader saw a commit"
        assert list(db.check()) == []
        assert len(db.ls("runs")) == N_RUNS + 1
        assert len(db.sql("select * from feature")) == (N_RUNS + 1) * 2 * N_FEATURES


def test_two_runs_may_bring_the_same_dictionary_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commits while the other, which has written the same dictionary, is just about to."""
    from featuredb.capture import finish
    from featuredb.store.files import rename_into_place as rename

    model = save_model(tmp_path / "model", num_hidden_layers=2)
    dictionary = random_dictionary(tmp_path / "top", "topk", 0)
    first, second = (
        request(model, [dictionary], save_corpus(tmp_path / f"{seed}.jsonl", texts(12, seed))) for seed in (0, 1)
    )

    def after_the_second(unfinished: Path, final: Path) -> None:
        monkeypatch.setattr(finish, "rename_into_place", rename)
        with featuredb.open(tmp_path / "store.fdb") as other:
            other.ingest(second)
        rename(unfinished, final)

    with featuredb.open(tmp_path / "store.fdb", create=True) as db:
        monkeypatch.setattr(finish, "rename_into_place", after_the_second)
        db.ingest(first)
        assert list(db.check()) == []
        assert len(db.ls("runs")) == 2
        assert [row.n_tokens for row in db.ls("dictionaries")] == [sum(run.n_tokens for run in db.ls("runs"))]


def start_reader(store: Path, ready: Path, stop: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READER, store, ready, stop],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(readers: list[subprocess.Popen[str]], ready: list[Path]) -> None:
    """Until each has answered once."""
    until = time.monotonic() + 120
    while not all(path.exists() for path in ready):
        assert time.monotonic() < until, "the readers never began"
        assert all(reader.poll() is None for reader in readers), [reader.communicate() for reader in readers]
        time.sleep(0.02)
