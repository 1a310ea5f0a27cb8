"""Damaged files: whatever is cut off or flipped, only our own errors come of it, and then the store is as it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuredb.database import FeatureDB
from featuredb.errors import FeatureDBError
from featuredb.labels.publish import import_publication
from featuredb.store.catalog import Base
from featuredb.store.check import check
from featuredb.store.store import Store
from tests.small_publications import dashboard_folder, delphi_folder, plugins, small_source, state
from tests.small_store import build
from tests.test_publications_tables import FULL, write


@dataclass(frozen=True)
class Kind:
    reader: str
    make: Callable[[Path], Path]
    dictionary: str | None = None


ROWS = [{**FULL, "feature": f"alpha/{index}", "n": index} for index in range(6)]
KINDS = {
    "neuronpedia": Kind("neuronpedia", small_source),
    "delphi": Kind("delphi", delphi_folder),
    "saedashboard": Kind("saedashboard", dashboard_folder),
    "csv": Kind("label-table", lambda folder: write(folder / "a.csv", ROWS), "alpha"),
    "jsonl": Kind("label-table", lambda folder: write(folder / "a.jsonl", ROWS), "alpha"),
    "parquet": Kind("label-table", lambda folder: write(folder / "a.parquet", ROWS), "alpha"),
}


@cache
def template(kind: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="featuredb-test-"))
    KINDS[kind].make(folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with build(tmp_path_factory.mktemp("stores") / "small.fdb") as small:
        yield small


def damaged(data: bytes, draw: st.DataObject) -> bytes:
    """A file cut short, with some bytes flipped, or with bytes put in."""
    if draw.draw(st.booleans(), label="cut"):
        return data[: draw.draw(st.integers(0, max(0, len(data) - 1)), label="length")]
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4), label="changes")):
        place = draw.draw(st.integers(0, max(0, len(changed) - 1)), label="place")
        noise = draw.draw(st.binary(min_size=1, max_size=3), label="noise")
        if draw.draw(st.booleans(), label="insert"):
            changed[place:place] = noise
        else:
            changed[place : place + len(noise)] = noise
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(draw=st.data())
def test_damage_is_refused_or_harmless(store: Store, kind: str, draw: st.DataObject) -> None:
    before = state(store)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "source"
        shutil.copytree(template(kind), folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = draw.draw(st.sampled_from(files), label="file")
        path.write_bytes(damaged(path.read_bytes(), draw))
        tables = ("csv", "jsonl", "parquet")
        source = files[0] if kind in tables else next(folder.iterdir()) if kind == "saedashboard" else folder
        reader = plugins().label_reader(KINDS[kind].reader)
        assert reader.recognises(source) in (True, False)
        done = None
        with suppress(FeatureDBError):
            done = import_publication(store, reader.read(source), dictionary=KINDS[kind].dictionary)
    if done is not None:
        assert check(store) == []
        if done.created:
            FeatureDB(store).remove_dictionary(done.dictionary)
        else:
            with store.session() as session:
                session.execute(Base.metadata.tables["label"].delete())
    assert state(store) == before


def test_what_a_folder_points_to_outside_of_it_is_not_followed(tmp_path: Path, store: Store) -> None:
    """Names in an export come from a stranger; none of them reaches a path of ours."""
    source = small_source(tmp_path)
    for path in source.rglob("*.gz"):
        assert path.resolve().is_relative_to(tmp_path)
    publication = plugins().label_reader("neuronpedia").read(source)
    hostile = type(publication)(**{**publication.__dict__, "name": "../../outside", "model": "../../m"})
    before = state(store)
    with pytest.raises(FeatureDBError, match="cannot name a dictionary"):
        import_publication(store, hostile)
    assert state(store) == before
    assert not (store.path.parent / "outside").exists()
