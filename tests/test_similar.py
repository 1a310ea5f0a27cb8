"""The features nearest another: cosines against plain numpy, firing together against brute force over the panel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from featuredb.cli.main import main
from featuredb.database import FeatureDB
from featuredb.errors import BadInput, FeatureDBError, NotFound
from tests.correlate_world import PROMISED, World, world
from tests.small_ingest import N_FEATURES

Doubles = NDArray[np.float64]


@pytest.fixture(scope="module")
def made() -> World:
    return world()


@pytest.fixture(scope="module")
def db(made: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureDB]:
    with made.copy(tmp_path_factory.mktemp("similar") / "store.fdb") as copied:
        yield copied


def cosines(rows: Doubles, vector: Doubles) -> Doubles:
    with np.errstate(invalid="ignore"):
        return np.asarray(rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector))


def panel(db: FeatureDB, made: World, name: str) -> dict[tuple[int, int], NDArray[np.float32]]:
    """By document and place in it, what every feature of a dictionary does on the panel's counted tokens."""
    (run,) = (row.run for row in db.ls("runs") if name in row.dictionaries)
    with duckdb.connect(str(db.store.paths.contexts(run)), read_only=True) as connection:
        chosen = {row for (row,) in connection.execute("select stream_index from context where on_panel").fetchall()}
    oracle = made.oracles[name]
    return {
        (place.document, place.offset): oracle.dense[row, position]
        for row in chosen
        for position, place in enumerate(oracle.rows[row])
        if place.counted
    }


def together(ours: Doubles, theirs: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """n_together, Jaccard and Pearson of a column (n,) with each of (n, F)."""
    both = ((ours[:, None] != 0) & (theirs != 0)).sum(axis=0)
    either = ((ours[:, None] != 0) | (theirs != 0)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = np.corrcoef(ours, theirs.T)[0, 1:]
    return both, both / np.maximum(either, 1), pearson


@pytest.mark.parametrize("side", ["decoder", "encoder"])
def test_nearest_by_direction_are_those_of_largest_cosine(db: FeatureDB, made: World, side: Any) -> None:
    weights = made.weights("jump")
    decoder = cosines(weights["w_dec"], weights["w_dec"][2])
    encoder = cosines(weights["w_enc"].T, weights["w_enc"].T[2])
    found = db.similar("jump/2", side, limit=N_FEATURES)
    order = np.argsort(-(decoder if side == "decoder" else encoder))
    assert [row.index for row in found] == [i for i in order if made.ranked("jump")[i] and i != 2]
    for row in found:
        assert row.cosine_decoder == pytest.approx(decoder[row.index], abs=1e-6)
        assert row.cosine_encoder == pytest.approx(encoder[row.index], abs=1e-6)
    assert {row.index for row in db.similar("jump/2", side, limit=99, all_features=True)} == set(range(48)) - {2}


def test_other_dictionaries_of_the_model_are_compared_when_asked_for(db: FeatureDB, made: World) -> None:
    said: list[str] = []
    vector = made.weights("jump")["w_dec"][2]
    names = ("before", "jump", "over", "top")
    every = [
        (-score, name, index)
        for name in names
        for index, score in enumerate(cosines(made.weights(name)["w_dec"], vector))
        if made.ranked(name)[index] and (name, index) != ("jump", 2)
    ]
    found = db.similar("jump/2", everywhere=True, limit=30, say=said.append)
    assert [(row.dictionary, row.index) for row in found] == [each[1:] for each in sorted(every)[:30]]
    assert db.similar("jump/2", dictionaries=["top"], limit=1)[0].dictionary == "top"
    assert said[-1].endswith("are left out; --all ranks them too")


@pytest.mark.parametrize("name", ["jump", "top", "before", "over", "other"])
def test_firing_together_is_counted_over_every_token_that_both_panels_hold(
    db: FeatureDB, made: World, name: str
) -> None:
    """`other` was run on another model in shorter contexts: its panel holds other ones, and some of the same tokens."""
    ours, theirs = panel(db, made, "jump"), panel(db, made, name)
    shared = sorted(ours.keys() & theirs.keys())
    assert len(shared) == len(ours) if name != "other" else 100 < len(shared) < min(len(ours), len(theirs))
    columns = np.array([theirs[each] for each in shared], np.float64)
    for feature in (3, 16, 30):
        own = np.array([ours[each][feature] for each in shared], np.float64)
        n, jaccard, pearson = together(own, columns)
        found = db.similar(f"jump/{feature}", "cofiring", [name], limit=N_FEATURES)
        expected = [
            (-jaccard[i], -pearson[i], i)
            for i in range(N_FEATURES)
            if made.ranked(name)[i] and n[i] and (name, i) != ("jump", feature)
        ]
        assert [row.index for row in found] == [i for *_, i in sorted(expected)]
        for row in found:
            assert row.n_together == n[row.index]
            assert row.jaccard == pytest.approx(jaccard[row.index])
            assert row.correlation == pytest.approx(pearson[row.index], abs=1e-5)
            assert (row.cosine_decoder is None) == (name == "other")
        # The same figures stand beside the nearest by direction.
        if name != "other":
            for row in db.similar(f"jump/{feature}", dictionaries=[name], limit=N_FEATURES, all_features=True):
                assert row.n_together == n[row.index]
                assert row.jaccard == pytest.approx(jaccard[row.index])
                if np.isnan(pearson[row.index]):
                    assert row.correlation is None
                else:
                    assert row.correlation == pytest.approx(pearson[row.index], abs=1e-5)


def test_a_copy_of_a_decoder_row_is_nearest_whatever_its_length(db: FeatureDB) -> None:
    (row,) = db.similar("top/4", limit=1, all_features=True)
    assert row.index == 5
    assert row.cosine_decoder == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("feature", "options", "kind", "message", "hint"),
    [
        ("top/3", {}, BadInput, "the decoder of top/3 is zero", "featuredb show top/3"),
        ("top/47", {"by": "cofiring"}, BadInput, "top/47 fires on no token of the panel", "--by decoder"),
        ("top/48", {}, NotFound, "no feature 48 in 'top'", "0 to 47"),
        ("tip/4", {}, NotFound, "no dictionary called 'tip'", "'top'"),
        ("top", {}, BadInput, "'top' does not name a feature", "dictionary/index"),
        (
            "top/4",
            {"dictionaries": ["other"]},
            BadInput,
            r"other is of another model \(two\) than top \(one\)",
            "--everywhere",
        ),
        ("top/4", {"dictionaries": ["nope"]}, NotFound, "no dictionary called 'nope'", ""),
        ("top/4", {"by": "angle"}, BadInput, "cannot compare by 'angle'", "one of decoder"),
        ("top/4", {"limit": 0}, BadInput, "cannot list 0", "at least 1"),
        ("top/4", {"dictionaries": ["top"], "everywhere": True}, BadInput, "all are asked for", "leave one"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    db: FeatureDB, feature: str, options: dict[str, Any], kind: type[FeatureDBError], message: str, hint: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        db.similar(feature, **options)
    assert hint in (caught.value.hint or "")


def test_runs_that_cannot_share_tokens_are_refused_with_the_reason(made: World, tmp_path: Path) -> None:
    from sqlalchemy import select

    from featuredb.store.catalog import CorpusRow, RunRow, SegmentRow

    with made.copy(tmp_path / "store.fdb") as db:
        (run,) = (row.run for row in db.ls("runs") if "other" in row.dictionaries)
        with duckdb.connect(str(db.store.paths.contexts(run))) as connection:
            connection.execute("update context set tokens = list_transform(tokens, lambda token: token + 1)")
        with pytest.raises(BadInput, match="cut the corpus into different tokens"):
            db.similar("top/4", "cofiring", ["other"])
        # With all asked for, what cannot be compared is left out.
        assert {row.dictionary for row in db.similar("top/4", "cofiring", everywhere=True, limit=200)} <= {
            "before",
            "jump",
            "over",
            "top",
        }
        with db.store.session() as session:
            row = session.scalars(select(RunRow).where(RunRow.key == run)).one()
            row.corpus = CorpusRow(name="another", spec="jsonl:another", plugin="jsonl.v1")
        with pytest.raises(BadInput, match="other was run on another corpus than top"):
            db.similar("top/4", "cofiring", ["other"])
        with db.store.session() as session:
            for segment in session.scalars(select(SegmentRow)):
                if segment.dictionary.name == "jump":
                    session.delete(segment)
        with pytest.raises(BadInput, match="jump has no run"):
            db.similar("top/4", "cofiring", ["jump"])
        (found,) = db.similar("jump/4", limit=1)
        assert (found.n_together, found.jaccard, found.correlation, found.flags) == (None, None, None, ())


def test_the_command_shows_and_says_it(db: FeatureDB) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["similar", *words, "--db", str(db.path)], env={"COLUMNS": "80"})

    result = run("jump/2", "--limit", "3", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)["rows"]
    assert [list(row)[: len(PROMISED)] for row in rows] == [PROMISED] * 3
    assert rows == db.similar("jump/2", limit=3).rows()
    for by in ("decoder", "encoder", "cofiring"):
        result = run("jump/2", "--by", by, "--everywhere", "--all")
        lines = result.stdout.splitlines()
        assert result.exit_code == 0
        assert lines[0].replace("flags", "").split() == [
            "feature",
            "label",
            "decoder",
            "encoder",
            "jaccard",
            "correlation",
        ]
        assert max(map(len, lines)) <= 80
        assert len(lines) == 21
    assert run("top/3").exit_code == 3
    assert run("jump/2", "--everywhere", "--dictionary", "top").exit_code == 2
