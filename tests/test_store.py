"""The store's folder: made whole, opened fast, refused with a reason, and emptied without a trace."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from featuredb.errors import BadInput, NotFound, StoreBusy, StoreUnusable
from featuredb.labels import add_label
from featuredb.store import FeatureRef, Store
from featuredb.store.catalog import (
    CorpusRow,
    DictionaryRow,
    FileRow,
    LabelRow,
    LeftoverRow,
    ModelRow,
    RunRow,
    SegmentRow,
)
from featuredb.store.check import check
from featuredb.store.engine import disk_errors
from featuredb.store.layout import Layout
from featuredb.store.refs import get_dictionary, get_feature
from featuredb.store.remove import remove_dictionary, sweep
from featuredb.store.runs import CorpusRecord, RunRecord, commit_run, dictionary_fingerprint, has_run
from tests.small_store import MODEL, N_KEPT, RUN, add_run, build


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def files_of(store: Store) -> set[str]:
    kept = (path for path in store.path.rglob("*") if path.is_file())
    return {store.paths.relative(path) for path in kept if not path.name.startswith("catalog.sqlite")}


def count(store: Store, table: type) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


class TestCreate:
    def test_a_new_store_is_whole_empty_and_alone(self, tmp_path: Path) -> None:
        with Store.create(tmp_path / "deep" / "new.fdb") as store:
            assert store.path == tmp_path / "deep" / "new.fdb"
            assert check(store) == []
            assert count(store, DictionaryRow) == 0
        assert os.listdir(tmp_path / "deep") == ["new.fdb"]

    def test_an_empty_folder_becomes_a_store(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        with Store.open(tmp_path / "a", create=True) as store:
            assert check(store) == []

    def test_it_never_takes_a_folder_that_holds_something(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(StoreUnusable, match="is no store: it is a folder without a catalog"):
            Store.create(tmp_path)
        with pytest.raises(StoreUnusable, match="is no store: it is a folder without a catalog"):
            Store.open(tmp_path, create=True)
        assert os.listdir(tmp_path) == ["thesis.tex"]

    def test_it_never_takes_another_store(self, store: Store) -> None:
        with pytest.raises(StoreUnusable, match="is a store already"):
            Store.create(store.path)
        assert check(store) == []

    def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        with pytest.raises(StoreUnusable, match="no room left") as caught, disk_errors(tmp_path):
            Path("/dev/full").write_bytes(b"x")
        assert caught.value.hint == "free some space and run it again"


class TestOpen:
    def test_no_store_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnusable, match="no store at") as caught:
            Store.open(tmp_path / "none")
        assert caught.value.exit_code == 6
        assert caught.value.hint == "`featuredb ingest` makes one; --db or FEATUREDB_DB names another"
        assert os.listdir(tmp_path) == []

    def test_a_file_is_no_store(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("x")
        with pytest.raises(StoreUnusable, match="it is a file"):
            Store.open(tmp_path / "x", create=True)

    @pytest.mark.parametrize("content", [b"", b"x" * 5000])
    def test_a_catalog_that_is_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "catalog.sqlite").write_bytes(content)
        with pytest.raises(StoreUnusable, match="is not a"):
            Store.open(tmp_path)

    def test_a_database_of_another_program(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "catalog.sqlite") as connection:
            connection.execute("create table song (title)")
        with pytest.raises(StoreUnusable, match="is not a featuredb catalog"):
            Store.open(tmp_path)

    def test_a_damaged_catalog(self, store: Store) -> None:
        store.close()
        content = bytearray(store.paths.catalog.read_bytes())
        content[100:4096] = bytes(3996)
        store.paths.catalog.write_bytes(content)
        with pytest.raises(StoreUnusable, match="damaged"):
            Store.open(store.path)

    def test_opening_imports_nothing_heavy(self, store: Store) -> None:
        code = (
            "import sys; from featuredb.store import Store; Store.open(sys.argv[1]);"
            "heavy = ('torch', 'faiss', 'transformers', 'duckdb', 'pyarrow', 'numpy', 'alembic.command');"
            "print([name for name in heavy if name in sys.modules])"
        )
        run = subprocess.run([sys.executable, "-c", code, store.path], capture_output=True, text=True, check=True)
        assert run.stdout == "[]\n"

    def test_a_read_only_store_answers_and_says_that_it_cannot_be_written(self) -> None:
        if os.name != "posix":
            pytest.skip("permissions of POSIX")
        folder = Path(tempfile.mkdtemp())
        try:
            folder.chmod(0o755)
            build(folder / "small.fdb").close()
            for path in [folder / "small.fdb", *(folder / "small.fdb").rglob("*")]:
                path.chmod(0o555)
            # Root may write anything: the store is opened as nobody, after all that it imports.
            code = """
import os, sys
from featuredb.errors import StoreUnusable
from featuredb.labels import add_label
from featuredb.store import Store
from featuredb.store.check import check
from featuredb.store.remove import remove_dictionary
import duckdb, faiss, mmap
if os.getuid() == 0:
    os.setuid(65534)
store = Store.open(sys.argv[1])
print(check(store))
try:
    remove_dictionary(store, "alpha")
except StoreUnusable as error:
    print(error)
"""
            command = [sys.executable, "-c", code, str(folder / "small.fdb")]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            assert run.stderr == ""
            assert run.stdout == f"[]\n{folder}/small.fdb/catalog.sqlite cannot be written\n"
        finally:
            for path in [folder / "small.fdb", *(folder / "small.fdb").rglob("*")]:
                path.chmod(0o755)
            shutil.rmtree(folder)


class TestSessions:
    def test_a_block_that_raises_changes_nothing(self, store: Store) -> None:
        def interrupted() -> None:
            with store.session() as session:
                add_label(session, "alpha/1", "cats")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            interrupted()
        assert count(store, LabelRow) == 0

    def test_a_locked_catalog_can_be_read_but_not_written(self, store: Store) -> None:
        with Store.open(store.path, busy_seconds=0.05) as other, store.session() as session:
            add_label(session, "alpha/1", "cats")
            with other.reading() as reading:
                assert reading.scalar(select(func.count()).select_from(LabelRow)) == 0
            with pytest.raises(StoreBusy, match="is locked by another process") as caught, other.session() as waiting:
                add_label(waiting, "alpha/1", "dogs")
        assert caught.value.exit_code == 6
        assert caught.value.hint == "run the command again when it has finished"
        assert count(store, LabelRow) == 1

    def test_a_full_disk_is_a_store_that_cannot_be_used(self, store: Store) -> None:
        def label_much() -> None:
            with store.session() as session:
                pages = session.scalar(text("pragma page_count"))
                session.execute(text(f"pragma max_page_count = {pages}"))
                for _ in range(100):
                    add_label(session, "alpha/1", "cats " * 300)

        with pytest.raises(StoreUnusable, match="no room left on the disk"):
            label_much()
        with Store.open(store.path) as again:
            assert count(again, LabelRow) == 0


class TestReferences:
    def test_a_feature_is_written_dictionary_slash_index(self, store: Store) -> None:
        assert FeatureRef.parse("gpt2/res/12") == FeatureRef("gpt2/res", 12)
        assert str(FeatureRef("alpha", 3)) == "alpha/3"
        with store.reading() as session:
            dictionary, index = get_feature(session, "beta/4")
        assert (dictionary.name, index) == ("beta", 4)

    @pytest.mark.parametrize("wrong", ["", "alpha", "alpha/", "/3", "alpha/x", "alpha/-1", "alpha/1.5", "alpha/²"])
    def test_anything_else_is_refused(self, wrong: str) -> None:
        with pytest.raises(BadInput) as caught:
            FeatureRef.parse(wrong)
        assert caught.value.hint == "write dictionary/index, such as gpt2-8-res-jb/1234"

    def test_what_is_not_there_names_what_is(self, store: Store) -> None:
        with store.reading() as session:
            with pytest.raises(NotFound, match="no dictionary called 'alhpa'") as caught:
                get_feature(session, "alhpa/1")
            assert caught.value.hint == "did you mean 'alpha'?"
            with pytest.raises(NotFound) as caught:
                get_dictionary(session, "zzz")
            assert caught.value.hint == "there are: alpha, beta"
            with pytest.raises(NotFound, match="no feature 8 in 'alpha'") as caught:
                get_feature(session, "alpha/8")
            assert caught.value.hint == "it has features 0 to 7"


class TestCommit:
    def test_a_run_is_there_whole(self, store: Store) -> None:
        assert has_run(store, RUN)
        assert dictionary_fingerprint(store, "alpha") is not None
        assert dictionary_fingerprint(store, "gamma") is None
        tables = (ModelRow, CorpusRow, RunRow, DictionaryRow, SegmentRow, FileRow)
        assert [count(store, table) for table in tables] == [1, 1, 1, 2, 2, 11]
        with store.reading() as session:
            assert set(session.scalars(select(FileRow.path))) == files_of(store)

    def test_a_second_commit_of_the_same_key_is_a_no_op(self, store: Store) -> None:
        run = RunRecord(RUN, MODEL, CorpusRecord("x", "text:x", "text.v1"), 1, 1, 1, 1, "concat", 0)
        assert commit_run(store, run, [], []) is False
        assert [count(store, table) for table in (RunRow, CorpusRow)] == [1, 1]

    def test_a_second_run_shares_model_and_dictionaries(self, store: Store) -> None:
        assert add_run(store, "run-two", seed=1)
        assert [count(store, table) for table in (ModelRow, RunRow, DictionaryRow, SegmentRow)] == [1, 2, 2, 4]
        assert check(store) == []

    def test_another_dictionary_of_a_taken_name_is_refused_whole(self, store: Store) -> None:
        with pytest.raises(BadInput, match="another dictionary is called 'alpha'"):
            add_run(store, "run-two", names=("Alpha",))
        assert not has_run(store, "run-two")

    def test_a_run_whose_file_is_missing_is_not_committed(self, store: Store) -> None:
        from featuredb.store.files import FileRecord

        run = RunRecord("other", MODEL, CorpusRecord("x", "text:x", "text.v1"), 1, 1, 1, 1, "concat", 0)
        with pytest.raises(StoreUnusable, match="is not there as it was written"):
            commit_run(store, run, [], [FileRecord("runs/other/contexts.duckdb", 1, "0", "contexts")])
        assert count(store, CorpusRow) == 1

    def test_names_that_cannot_be_files_are_refused(self) -> None:
        for name in ("", ".", "..", "a/b", "-x", "contexts", "Contexts", "a" * 129, "nul\0", "sp ace", "x."):
            with pytest.raises(BadInput, match="cannot name a dictionary"):
                Layout(Path("x")).weights(name)

    def test_register_file_answers_for_a_file(self, store: Store) -> None:
        extra = store.paths.dictionary_folder("alpha") / "note.txt"
        extra.write_text("hello")
        with store.session() as session:
            alpha = get_dictionary(session, "alpha")
            store.register_file(session, extra, "note", dictionary_id=alpha.id)
        assert check(store) == []
        extra.write_text("jello")
        assert [fault.object for fault in check(store)] == ["dictionaries/alpha/note.txt"]


class TestRemove:
    def test_the_last_dictionary_leaves_nothing_behind(self, store: Store) -> None:
        with store.session() as session:
            add_label(session, "beta/1", "cats")
        remove_dictionary(store, "alpha")
        removed = remove_dictionary(store, "beta")
        assert (removed.n_runs, removed.n_labels) == (1, 1)
        tables = (ModelRow, CorpusRow, RunRow, DictionaryRow, SegmentRow, FileRow, LabelRow, LeftoverRow)
        assert [count(store, table) for table in tables] == [0] * 8
        assert files_of(store) == set()
        assert os.listdir(store.paths.runs) == []
        assert os.listdir(store.paths.dictionaries) == []
        assert check(store) == []

    def test_what_another_dictionary_needs_stays(self, store: Store) -> None:
        add_run(store, "run-two", names=("alpha",))
        remove_dictionary(store, "alpha")
        assert has_run(store, RUN)
        assert not has_run(store, "run-two")
        assert files_of(store) == {
            "dictionaries/beta/decoder.faiss",
            "dictionaries/beta/weights.safetensors",
            "runs/run-one/beta.duckdb",
            "runs/run-one/beta.response.safetensors",
            "runs/run-one/contexts.duckdb",
            "runs/run-one/layers.1.resid_post.moments.safetensors",
        }
        assert check(store) == []

    def test_an_unknown_name_removes_nothing(self, store: Store) -> None:
        before = files_of(store)
        with pytest.raises(NotFound, match="no dictionary called 'gamma'"):
            remove_dictionary(store, "gamma")
        assert files_of(store) == before

    def test_what_an_interrupted_removal_left_goes_with_the_next_check(self, store: Store) -> None:
        left = store.paths.dictionary_folder("gone") / "weights.safetensors"
        left.parent.mkdir()
        left.write_bytes(b"x")
        with store.session() as session:
            session.add(LeftoverRow(path="dictionaries/gone/weights.safetensors"))
        assert check(store) == []
        assert not left.parent.exists()
        assert sweep(store) == 0

    def test_a_removed_dictionary_can_come_back(self, store: Store) -> None:
        remove_dictionary(store, "alpha")
        assert add_run(store, "run-two", names=("alpha",))
        assert check(store) == []


def test_kept_contexts_are_what_the_run_says(store: Store) -> None:
    with store.reading() as session:
        assert session.scalars(select(RunRow.n_kept)).all() == [N_KEPT]
