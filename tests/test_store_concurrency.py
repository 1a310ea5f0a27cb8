"""Four processes read while one writes: no reader ever fails, waits for the writer, or sees half of a change."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import func, select

from featuredb.labels import add_label
from featuredb.store import Store
from featuredb.store.catalog import LabelRow, RunRow
from featuredb.store.check import check
from featuredb.store.remove import remove_dictionary
from tests.small_store import add_run, build

READER = """
import json, sys, time
from pathlib import Path
from sqlalchemy import select
from featuredb.errors import NotFound
from featuredb.store import Store
from featuredb.store.catalog import FileRow, LabelRow, RunRow
from featuredb.store.queries import run_query
from featuredb.store.sql import Sql
from featuredb.store.vectors import Rows, nearest

root, ready, stop = (Path(argument) for argument in sys.argv[1:])
seen = {"rounds": 0, "runs": set(), "labels": set(), "slowest": 0.0, "gamma": 0}
store = Store.open(root)
last = False
while not last:
    last = stop.exists()  # one round more once the writer has ended, so that its work is always met
    began = time.perf_counter()
    with store.reading() as session:
        texts = list(session.scalars(select(LabelRow.text)))
        runs = list(session.scalars(select(RunRow)))
        assert all(len(run.segments) == (1 if run.key.startswith("gamma") else 2) for run in runs)
        kept = list(session.scalars(select(FileRow.path).where(FileRow.path.not_like("%gamma%"))))
    seen["slowest"] = max(seen["slowest"], time.perf_counter() - began)
    assert all(texts.count(text) == 5 for text in set(texts)), "half a batch of labels"
    assert all((root / path).is_file() for path in kept), "a file was promised before it was there"
    found = Sql(store).run(
        "select run, count(*) as n from feature where dictionary <> 'gamma' group by run",
        dictionaries=["alpha", "beta"],
    ).to_pylist()
    assert all(row["n"] == 13 for row in found), found
    assert len(run_query(store, "feature/top_examples", {"feature": "alpha/5"})) >= 4
    rows = Rows(store.paths.weights("beta"), "w_dec")
    assert nearest(store.paths.decoder_index("beta"), rows, rows.take([3])[0], 1)[0].index == 3
    try:
        assert len(run_query(store, "feature/most_active", {"dictionary": "gamma"})) % 5 == 0
        seen["gamma"] += 1
    except NotFound:
        pass
    if seen["rounds"] % 5 == 4:
        store.close()
        store = Store.open(root)
    seen["rounds"] += 1
    seen["runs"].add(len(found))
    seen["labels"].add(len(texts))
    ready.touch()
print(json.dumps(seen | {"runs": sorted(seen["runs"]), "labels": sorted(seen["labels"])}))
"""


def test_four_readers_and_a_writer(tmp_path: Path) -> None:
    store = build(tmp_path / "small.fdb")
    stop = tmp_path / "stop"
    ready = [tmp_path / f"ready-{number}" for number in range(4)]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, store.path, path, stop],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for path in ready
    ]
    try:
        until = time.monotonic() + 60
        while not all(path.exists() for path in ready) and time.monotonic() < until:
            assert all(reader.poll() is None for reader in readers), [reader.communicate() for reader in readers]
            time.sleep(0.02)
        write(store, seconds=4)
    finally:
        stop.touch()
        answers = [reader.communicate(timeout=60) for reader in readers]
    assert [error for _, error in answers] == [""] * 4
    for answer, _ in answers:
        seen = json.loads(answer)
        assert seen["rounds"] > 1
        assert len(seen["labels"]) > 1
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(RunRow)) == 4
    assert check(store) == []
    store.close()


def write(store: Store, seconds: float) -> None:
    """Labels in batches of five, and now and then a run, one whose dictionary goes again."""
    began = time.monotonic()
    batch = 0
    for number in range(3):
        add_run(store, f"run-{number}", seed=number)
        add_run(store, f"gamma-{number}", names=("gamma",), seed=number)
        until = max(began + seconds * (number + 1) / 3, time.monotonic() + 0.2)
        while time.monotonic() < until:
            with store.session() as session:
                for index in range(5):
                    add_label(session, f"alpha/{index}", f"batch {batch}")
            batch += 1
            time.sleep(0.005)
        remove_dictionary(store, "gamma")


def test_two_writers_queue_and_lose_nothing(tmp_path: Path) -> None:
    with build(tmp_path / "small.fdb") as store:
        code = (
            "import sys; from featuredb.store import Store; from featuredb.labels import add_label\n"
            "store = Store.open(sys.argv[1])\n"
            "for number in range(40):\n"
            "    with store.session() as session: add_label(session, 'alpha/1', f'{sys.argv[2]} {number}')"
        )
        writers = [subprocess.Popen([sys.executable, "-c", code, store.path, name]) for name in "abc"]
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
        with store.reading() as session:
            assert session.scalar(select(func.count()).select_from(LabelRow)) == 120


def test_two_processes_that_make_one_store_both_open_it(tmp_path: Path) -> None:
    code = "import sys; from featuredb.store import Store; Store.open(sys.argv[1], create=True)"
    makers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "new.fdb"]) for _ in range(3)]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["new.fdb"]
    with Store.open(tmp_path / "new.fdb") as store:
        assert check(store) == []
