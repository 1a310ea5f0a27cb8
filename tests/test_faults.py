"""Damage to a store that was really ingested: `featuredb check` names the file, and `rm dictionary` leaves nothing."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

import featuredb
from featuredb.cli.main import main
from featuredb.store.catalog import Base
from tests.small_ingest import files_below, random_dictionary, request, save_corpus, save_model, texts

KINDS = {
    "contexts": "runs/*/contexts.duckdb",
    "segment": "runs/*/top.duckdb",
    "response": "runs/*/top.response.safetensors",
    "moments": "runs/*/*.moments.safetensors",
    "weights": "dictionaries/top/weights.safetensors",
    "index": "dictionaries/top/decoder.faiss",
}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two dictionaries at two hooks of one run; not to be changed."""
    folder = tmp_path_factory.mktemp("faults")
    model = save_model(folder / "model", num_hidden_layers=2)
    dictionaries = [random_dictionary(folder / "top", "topk", 0), random_dictionary(folder / "jump", "jumprelu", 1)]
    with featuredb.open(folder / "store.fdb", create=True) as db:
        db.ingest(request(model, dictionaries, save_corpus(folder / "corpus.jsonl", texts(40))))
        db.add_label("top/3", "a label")
    return folder / "store.fdb"


@pytest.fixture
def store(ingested: Path, tmp_path: Path) -> Path:
    """A copy of a test's own."""
    return shutil.copytree(ingested, tmp_path / "store.fdb")


def faults(store: Path) -> list[tuple[str, str]]:
    """What the command says, as (object, fault); its exit status must fit."""
    said = CliRunner().invoke(main, ["check", "--db", str(store), "--json"])
    if said.exit_code == 0:
        assert (said.stderr, json.loads(said.stdout)) == ("", {"ok": True, "rows": []})
        return []
    assert said.exit_code == 7
    error = json.loads(said.stderr)
    assert (error["ok"], error["error"]["code"]) == (False, "faults-found")
    return [(row["object"], row["fault"]) for row in json.loads(said.stdout)["rows"]]


def one(store: Path, kind: str) -> Path:
    return sorted(store.glob(KINDS[kind]))[0]


def test_every_file_is_of_a_kind_that_is_tested(ingested: Path) -> None:
    assert faults(ingested) == []
    tested = {path.relative_to(ingested).as_posix() for pattern in KINDS.values() for path in ingested.glob(pattern)}
    assert {name.replace("jump", "top") for name in files_below(ingested)} - tested == set()


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_byte_anywhere(ingested: Path, store: Path, kind: str) -> None:
    file, generator = one(store, kind), random.Random(kind)
    whole = file.read_bytes()
    for place in (0, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(4))):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :])
        name = file.relative_to(store).as_posix()
        assert faults(store) == [(name, "changed: its bytes are not those that were written (sha256)")]
    file.write_bytes(whole)
    assert faults(store) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "changed: "),
        (lambda file: file.write_bytes(b""), "changed: 0 bytes, "),
        (lambda file: file.unlink(), "missing"),
    ],
    ids=["cut", "empty", "missing"],
)
def test_a_file_that_is_cut_or_missing(store: Path, kind: str, damage: Callable[[Path], object], fault: str) -> None:
    file = one(store, kind)
    damage(file)
    ((name, said),) = faults(store)
    assert name == file.relative_to(store).as_posix()
    assert said.startswith(fault)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_too_many(store: Path, kind: str) -> None:
    extra = one(store, kind).with_name("extra.safetensors")
    extra.write_bytes(b"x")
    assert faults(store) == [(extra.relative_to(store).as_posix(), "nothing in the catalog owns it")]


def test_the_command_says_the_fault_to_people(store: Path) -> None:
    one(store, "index").unlink()
    said = CliRunner().invoke(main, ["check", "--db", str(store)])
    assert said.exit_code == 7
    assert "dictionaries/top/decoder.faiss" in said.stdout
    assert said.stderr.startswith("Error: 1 fault in ")


def remove(store: Path, name: str) -> None:
    said = CliRunner().invoke(main, ["rm", "dictionary", name, "--yes", "--db", str(store)])
    assert said.exit_code == 0, said.stderr


def test_a_removed_dictionary_takes_what_is_its_own(store: Path) -> None:
    before = files_below(store)
    remove(store, "top")
    # Its hook's moments go too: no other dictionary reads there.
    assert files_below(store) == [name for name in before if "top" not in name and "layers.0" not in name]
    assert faults(store) == []
    with featuredb.open(store) as db:
        assert [row.dictionary for row in db.ls("dictionaries")] == ["jump"]
        assert len(db.feature("jump/1").examples) > 0
        assert list(db.labels()) == []


def test_the_last_removed_dictionary_leaves_nothing(store: Path) -> None:
    remove(store, "top")
    remove(store, "jump")
    assert files_below(store) == []
    assert [path for top in ("runs", "dictionaries", "work") for path in (store / top).iterdir()] == []
    assert faults(store) == []
    with featuredb.open(store) as db, db.store.reading() as session:
        for table in Base.metadata.sorted_tables:
            assert session.scalar(select(func.count()).select_from(table)) == 0, table.name


@pytest.mark.parametrize("fresh", [False, True])
def test_a_finished_run_is_not_run_again(ingested: Path, store: Path, fresh: bool) -> None:
    """And its files are not touched: readers have them open."""
    written = {name: (store / name).stat().st_mtime_ns for name in files_below(store)}
    folder = ingested.parent
    asked = request(folder / "model", [folder / "top", folder / "jump"], folder / "corpus.jsonl", fresh=fresh)
    with featuredb.open(store) as db:
        (run,) = db.ls("runs")
        assert db.ingest(asked).run == run.run
    assert {name: (store / name).stat().st_mtime_ns for name in files_below(store)} == written


def test_what_was_removed_can_be_ingested_again(ingested: Path, store: Path) -> None:
    remove(store, "top")
    remove(store, "jump")
    folder = ingested.parent
    with featuredb.open(store) as db:
        db.ingest(request(folder / "model", [folder / "top", folder / "jump"], folder / "corpus.jsonl"))
    assert files_below(store) == files_below(ingested)
    assert faults(store) == []
