"""`check` names whatever is wrong with a store, and is never brought down by it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import select, text, update

from featuredb.errors import StoreUnusable
from featuredb.store import Store
from featuredb.store.catalog import FileRow, RunRow, SegmentRow
from featuredb.store.check import Fault, check
from featuredb.store.index import CodedIndex
from featuredb.store.vectors import write_index
from tests.small_store import RUN, add_run, build, decoder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def paths_of(store: Store) -> list[str]:
    with store.reading() as session:
        return list(session.scalars(select(FileRow.path).order_by(FileRow.path)))


def register(store: Store, path: Path) -> None:
    """Enters a file's new bytes, as if they had been written so at first."""
    with store.session() as session:
        row = session.scalars(select(FileRow).where(FileRow.path == store.paths.relative(path))).one()
        store.register_file(session, path, row.role, run_id=row.run_id, dictionary_id=row.dictionary_id)


def alter(store: Store, path: Path, statement: str) -> None:
    """Changes a segment and the catalog's digest of it, as a writer with a fault would have."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)
    register(store, path)


def test_a_whole_store_has_no_faults(store: Store) -> None:
    told: list[str] = []
    assert check(store, progress=lambda path, n_bytes: told.append(path)) == []
    assert told == paths_of(store)


def test_one_flipped_byte_names_its_file(store: Store) -> None:
    generator = random.Random(0)
    for path in paths_of(store):
        file = store.path / path
        whole = file.read_bytes()
        for place in (generator.randrange(len(whole)), generator.choice([0, len(whole) - 1])):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :])
            assert check(store) == [Fault(path, "changed: its bytes are not those that were written (sha256)")]
        file.write_bytes(whole)
    assert check(store) == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda file: file.unlink(), "missing"),
        (lambda file: (file.unlink(), file.mkdir()), "missing"),
        (lambda file: file.write_bytes(b""), "changed: 0 bytes, "),
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "changed: "),
    ],
)
def test_a_missing_or_cut_file_is_named(store: Store, damage: Callable[[Path], object], fault: str) -> None:
    for path in paths_of(store):
        damage(store.path / path)
    found = check(store)
    assert [each.object for each in found] == paths_of(store)
    assert all(each.fault.startswith(fault) for each in found)


def test_files_that_nobody_owns_are_named(store: Store) -> None:
    for path in ("runs/run-one/extra.duckdb", "runs/old/x", "dictionaries/gone/weights.safetensors"):
        (store.path / path).parent.mkdir(exist_ok=True)
        (store.path / path).write_bytes(b"x")
    (store.paths.work / "notes").write_bytes(b"x")
    assert check(store) == [
        Fault("dictionaries/gone/weights.safetensors", "nothing in the catalog owns it"),
        Fault("runs/old/x", "nothing in the catalog owns it"),
        Fault("runs/run-one/extra.duckdb", "nothing in the catalog owns it"),
    ]


def test_files_of_a_run_that_is_not_finished_are_no_fault(store: Store) -> None:
    for path in ("runs/next/contexts.duckdb", "dictionaries/next/weights.safetensors", "work/next/state"):
        (store.path / path).parent.mkdir(exist_ok=True)
        (store.path / path).write_bytes(b"x")
    assert check(store) == []
    (store.path / "runs/run-one/extra").write_bytes(b"x")
    assert check(store) == [Fault("runs/run-one/extra", "nothing in the catalog owns it")]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("delete from example where feature = 7", "{n} rows in table example, 22 in the catalog"),
        ("insert into feature (feature) values (8)", "9 rows in table feature, 8 in the catalog"),
        ("delete from panel", "0 rows in table panel, 27 in the catalog"),
        ("update example set context = 4 where context = 3 and feature = 7", "1 rows of table example name no kept"),
        ("update meta set value = '99'", "schema version 99, not 1"),
        ("drop table meta", "table meta has no column key VARCHAR"),
        ("alter table feature drop column density", "table feature has no column density DOUBLE"),
        (
            "alter table panel alter position type integer",
            "table panel has no column position USMALLINT but one INTEGER",
        ),
    ],
)
def test_a_segment_that_is_not_what_the_catalog_says(store: Store, statement: str, fault: str) -> None:
    segment = store.paths.segment(RUN, "alpha")
    alter(store, segment, statement)
    faults = check(store)
    assert {each.object for each in faults} == {"runs/run-one/alpha.duckdb"}
    assert faults[0].fault.startswith(fault.replace("{n}", "18"))


def test_contexts_that_are_not_what_the_catalog_says(store: Store) -> None:
    alter(store, store.paths.contexts(RUN), "delete from context where context = 2")
    assert check(store) == [Fault("runs/run-one/contexts.duckdb", "3 rows in table context, 4 in the catalog")]


def test_a_segment_that_is_no_database(store: Store) -> None:
    store.paths.segment(RUN, "alpha").write_bytes(b"x" * 5000)
    register(store, store.paths.segment(RUN, "alpha"))
    (fault,) = check(store)
    assert fault.object == "runs/run-one/alpha.duckdb"
    assert fault.fault.startswith("cannot be read: ")


def test_an_index_of_other_vectors_is_named(store: Store) -> None:
    index = store.paths.decoder_index("alpha")
    for rows, fault in (
        (decoder("alpha")[::-1, 0], "vector 0 is not that of row 0"),
        (decoder("alpha")[:7, 0], "7 vectors of 6 for 8 rows of 6"),
        (decoder("alpha")[:, 0, :5], "8 vectors of 5 for 8 rows of 6"),
    ):
        write_index(np.ascontiguousarray(rows), index)
        register(store, index)
        assert check(store) == [Fault("dictionaries/alpha/decoder.faiss", fault)]
    index.write_bytes(b"IxF" * 9)
    register(store, index)
    (fault_now,) = check(store)
    assert fault_now.object == "dictionaries/alpha/decoder.faiss"
    assert fault_now.fault.endswith("cannot be read as an index")


def test_a_coded_index_is_told_from_one_of_other_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.store import vectors

    monkeypatch.setattr(vectors, "EXACT_ROWS", 100)
    rows = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    save_file({"w": rows}, tmp_path / "w.safetensors")
    mapped, sample = vectors.Rows(tmp_path / "w.safetensors", "w"), np.arange(0, 500, 10)
    write_index(rows, tmp_path / "w.faiss")
    assert isinstance(vectors.read_index(tmp_path / "w.faiss"), CodedIndex)
    assert vectors.index_fault(tmp_path / "w.faiss", mapped, sample) is None
    write_index(np.ascontiguousarray(rows[::-1]), tmp_path / "w2.faiss")
    assert vectors.index_fault(tmp_path / "w2.faiss", mapped, sample) == "vector 0 is not that of row 0"


def test_vectors_of_another_shape_are_named(store: Store) -> None:
    weights, response = store.paths.weights("alpha"), store.paths.response(RUN, "alpha")
    save_file({"w_dec": decoder("alpha")[:3]}, weights)
    save_file({"directions": decoder("alpha")[:, 0]}, response)
    register(store, weights)
    register(store, response)
    assert check(store) == [
        Fault("dictionaries/alpha/weights.safetensors", "3 decoder rows for 8 features"),
        Fault("runs/run-one/alpha.response.safetensors", f"{response} has no tensor 'response'"),
    ]


def test_rows_that_point_nowhere_are_named(store: Store) -> None:
    with store._readers.connect() as connection:
        connection.execute(text("rollback"))
        connection.exec_driver_sql("pragma foreign_keys = off")
        connection.exec_driver_sql("begin")
        connection.execute(update(SegmentRow).values(dictionary_id=77).where(SegmentRow.path.contains("alpha")))
        connection.commit()
        connection.exec_driver_sql("pragma foreign_keys = on")
    faults = check(store)
    assert faults[0].object == "catalog.sqlite"
    assert faults[0].fault.endswith("of segment points to no row of dictionary")


def test_a_file_the_catalog_forgot_is_named(store: Store) -> None:
    with store.session() as session:
        session.delete(session.scalars(select(FileRow).where(FileRow.role == "contexts")).one())
    assert check(store) == [
        Fault("runs/run-one/contexts.duckdb", "nothing in the catalog owns it"),
        Fault("runs/run-one/contexts.duckdb", "the catalog needs it and has no record of it"),
    ]


def test_values_that_cannot_be_read_are_a_fault(store: Store) -> None:
    with store.session() as session:
        session.execute(text("update run set settings = '{'"))
    (fault,) = check(store)
    assert fault.object == "catalog.sqlite"
    assert fault.fault.startswith("cannot be read: ")


def test_no_damage_to_the_catalog_brings_check_down(store: Store) -> None:
    add_run(store, "run-two")
    store.close()
    catalog = store.paths.catalog
    whole = catalog.read_bytes()
    generator = random.Random(1)
    for _ in range(25):
        content = bytearray(whole)
        for _ in range(generator.choice([1, 20, 500])):
            content[generator.randrange(len(content))] = generator.randrange(256)
        catalog.write_bytes(content[: generator.choice([len(content), len(content) // 2])])
        for log in ("-wal", "-shm"):
            catalog.with_name(catalog.name + log).unlink(missing_ok=True)
        try:
            with Store.open(store.path) as damaged:
                check(damaged)
        except StoreUnusable:
            continue


def test_a_dictionary_removed_while_we_look_is_no_fault(store: Store) -> None:
    from featuredb.store.remove import remove_dictionary

    def meanwhile(path: str, n_bytes: int) -> None:
        if path == "dictionaries/alpha/decoder.faiss":
            remove_dictionary(store, "alpha")

    assert check(store, progress=meanwhile) == []
    with store.reading() as session:
        assert session.scalars(select(RunRow.key)).all() == [RUN]
