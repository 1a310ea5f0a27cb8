"""A disk that is full, or a file that may not grow: said in one line with a hint, and nothing half-written is left."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import featuredb
from tests.fork_server import ForkServer
from tests.small_ingest import command, files_below, save_parts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    save_parts(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with ForkServer(tmp_path_factory.mktemp("server")) as warm:
        yield warm


@pytest.mark.parametrize("kilobytes", [4, 150, 400, 800])
def test_files_that_may_not_grow(made: Path, tmp_path: Path, server: ForkServer, kilobytes: int) -> None:
    """Whatever the file is that meets the limit: the catalog, the text, a checkpoint or a segment."""
    store = tmp_path / "store.fdb"
    words = command(made)
    ended = server.cli(*words, "--db", store, file_limit=1024 * kilobytes)
    assert_full(ended.status, ended.stderr)
    assert_only_unfinished(store)
    assert server.cli(*words, "--db", store).status == 0
    with featuredb.open(store) as db:
        assert list(db.check()) == []
    assert [path for path in files_below(store) if path.startswith("work/")] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte and a half, where this machine lets us have one."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", path]).returncode:
        pytest.skip("this machine does not let tests mount a file system")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_disk_that_is_full(made: Path, small_disk: Path, server: ForkServer) -> None:
    store = small_disk / "store.fdb"
    stuffing = small_disk / "stuffing"
    for kilobytes in (0, 600, 1000):
        stuffing.write_bytes(bytes(1024 * kilobytes))
        ended = server.cli(*command(made), "--db", store)
        assert_full(ended.status, ended.stderr)
        assert str(store) in ended.stderr
        assert_only_unfinished(store)
        shutil.rmtree(store)


def assert_full(status: int, stderr: str) -> None:
    assert status == 6, stderr
    error, hint = stderr.splitlines()[-2:]
    assert error.startswith("Error: ")
    assert hint.startswith("  ")
    assert "Traceback" not in stderr
    assert os.strerror(errno.ENOSPC) not in error


def assert_only_unfinished(store: Path) -> None:
    """Nothing of the run is to be seen; at most the work that the next call goes on with is there."""
    if store.exists():
        assert [path for path in files_below(store) if not path.startswith("work/")] == []
        with featuredb.open(store) as db:
            assert list(db.check()) == []
            assert list(db.ls("runs")) == []
