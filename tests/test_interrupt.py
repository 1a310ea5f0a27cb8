"""An ingest stopped anywhere, by kill -9 or Ctrl-C, and run again, leaves what an unbroken one leaves; and before its
commit nobody sees any of it."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import featuredb
from tests.fork_server import Ended, ForkServer
from tests.small_ingest import assert_same_stores, random_dictionary, save_corpus, save_model, texts

N_KILLS, KILLS_EACH = 20, 6
TEXTS = texts(80)


@dataclass(frozen=True)
class Bench:
    """A fork server, what it ingests, and what an unbroken ingest of that leaves."""

    server: ForkServer
    request: dict[str, Any]
    unbroken: Path
    seconds: float
    """How long the unbroken ingest took."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("interrupt")
    request = {
        "model": str(save_model(folder / "model", num_hidden_layers=2)),
        "dictionaries": [
            str(random_dictionary(folder / "top", "topk", 0)),
            str(random_dictionary(folder / "jump", "jumprelu", 1)),
        ],
        "corpus": str(save_corpus(folder / "corpus.jsonl", TEXTS)),
    }
    # The smallest blocks there are: some thirty in this text, with a checkpoint after each.
    with ForkServer(folder, block_rows=256) as server:
        for name in ("warm.fdb", "unbroken.fdb"):
            ended = server.ingest(folder / name, request)
            assert (ended.status, ended.stderr) == (0, "")
        yield Bench(server, request, folder / "unbroken.fdb", ended.seconds)


def seen(store: Path) -> list[str]:
    """The runs that a reader sees; `check` must have nothing to say."""
    if not store.exists():
        return []
    with featuredb.open(store) as db:
        assert list(db.check()) == []
        runs = [run.run for run in db.ls("runs")]
        if not runs:
            assert [*db.ls("dictionaries"), *db.ls("models"), *db.ls("corpora")] == []
            assert db.sql("select count(*) as n from example").to_pylist() == [{"n": 0}]
        return runs


def assert_finishes(bench: Bench, store: Path) -> None:
    ended = bench.server.ingest(store, bench.request)
    assert (ended.status, ended.stderr) == (0, "")
    assert_same_stores(store, bench.unbroken)
    assert len(seen(store)) == 1
    assert list((store / "work").iterdir()) == []


def test_killed_at_random_moments(bench: Bench, tmp_path: Path) -> None:
    moments = random.Random(2)
    n_kills = n_resumed = 0
    for number in range(N_KILLS):
        store = tmp_path / f"{number}.fdb"
        for _ in range(KILLS_EACH):
            ended = bench.server.ingest(store, bench.request, kill_after=moments.uniform(0.05, 0.7) * bench.seconds)
            if ended.status == 0:  # quicker than was expected
                break
            assert ended.status == -signal.SIGKILL, ended.stderr
            n_kills += 1
            n_resumed += any(store.glob("work/*/state.npz"))
            # Between the commit and the end of the process the run is there, and whole.
            assert len(seen(store)) <= len(list(store.glob("runs/*")))
        assert_finishes(bench, store)
        if n_kills >= N_KILLS:
            break
    assert n_kills >= N_KILLS
    assert n_resumed >= 10, "most kills came before anything was written; the moments are not well chosen"


SEAMS = {
    "a checkpoint is written but not yet the checkpoint": ("os:fsync", 7),
    "the segments are being written": ("featuredb.capture.finish:write_dictionary", 2),
    "everything is written, nothing in place": ("featuredb.capture.finish:rename_into_place", 1),
    "some files are in place": ("featuredb.store.files:sync_file", 8),
    "everything is in place, nothing committed": ("featuredb.capture.finish:commit_run", 1),
}


@pytest.mark.parametrize("seam", SEAMS)
def test_killed_at_a_seam(bench: Bench, seam: str, tmp_path: Path) -> None:
    store = tmp_path / "store.fdb"
    featuredb.open(store, create=True).close()  # so that the store's own making counts no calls
    function, n = SEAMS[seam]
    for _ in range(2):  # and killed there once more when it goes on
        ended = bench.server.ingest(store, bench.request, at=[function, n, signal.SIGKILL])
        assert ended.status == -signal.SIGKILL, ended.stderr
        assert seen(store) == []
    assert_finishes(bench, store)


def test_killed_between_the_commit_and_the_end(bench: Bench, tmp_path: Path) -> None:
    store = tmp_path / "store.fdb"
    featuredb.open(store, create=True).close()
    # The first call makes room for the finished files, the second clears up when they are committed.
    ended = bench.server.ingest(store, bench.request, at=["shutil:rmtree", 2, signal.SIGKILL])
    assert ended.status == -signal.SIGKILL, ended.stderr
    assert len(seen(store)) == 1
    assert_finishes(bench, store)


@pytest.fixture
def command(bench: Bench, tmp_path: Path) -> list[str]:
    """The same ingest as a command line, over a text of the test's own."""
    save_corpus(tmp_path / "corpus.jsonl", TEXTS)
    dictionaries = [word for path in bench.request["dictionaries"] for word in ("--dictionary", path)]
    corpus = str(tmp_path / "corpus.jsonl")
    return ["ingest", "model", bench.request["model"], *dictionaries, "--corpus", corpus, "--batch-size", "4"]


def interrupted(bench: Bench, command: list[str], store: Path) -> Ended:
    """The command, with Ctrl-C as soon as it has read something."""
    ended = bench.server.cli(*command, "--db", store, interrupt_when=f"{store}/*/*/tokens.bin")
    assert "Traceback" not in ended.stderr
    return ended


def test_ctrl_c_leaves_with_130_and_the_same_command_goes_on(bench: Bench, command: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store.fdb"
    ended = interrupted(bench, command, store)
    assert ended.status == 130
    assert "the same command goes on from here" in ended.stderr
    assert seen(store) == []
    (state,) = store.glob("work/*/state.npz")
    ended = bench.server.cli(*command, "--db", store)
    assert ended.status == 0, ended.stderr
    assert not state.exists()
    assert bench.server.cli(*command, "--db", tmp_path / "unbroken.fdb").status == 0
    assert_same_stores(store, tmp_path / "unbroken.fdb")
    assert len(seen(store)) == 1


def test_ctrl_c_while_segments_are_written(bench: Bench, command: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store.fdb"
    at = ["featuredb.capture.finish:write_dictionary", 2, signal.SIGINT]
    ended = bench.server.cli(*command, "--db", store, at=at)
    assert ended.status == 130
    assert "Traceback" not in ended.stderr
    assert seen(store) == []
    assert bench.server.cli(*command, "--db", store).status == 0
    assert bench.server.cli(*command, "--db", tmp_path / "unbroken.fdb").status == 0
    assert_same_stores(store, tmp_path / "unbroken.fdb")


def test_a_text_that_changed_meanwhile_is_not_gone_on_with(bench: Bench, command: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store.fdb"
    assert interrupted(bench, command, store).status == 130
    save_corpus(tmp_path / "corpus.jsonl", ["Something new.", *TEXTS])
    ended = bench.server.cli(*command, "--db", store)
    assert (ended.status, ended.stdout) == (3, "")
    assert ended.stderr.endswith(
        "Error: the corpus has changed since this run was interrupted\n  begin it anew with --fresh\n"
    )
    assert seen(store) == []
    assert bench.server.cli(*command, "--db", store, "--fresh").status == 0
    assert bench.server.cli(*command, "--db", tmp_path / "unbroken.fdb").status == 0
    assert_same_stores(store, tmp_path / "unbroken.fdb")
