"""Maps: near directions lie near, the same again for the same seed, kept whole in the store, drawn legibly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from rich.cells import cell_len
from safetensors.numpy import save_file

from featuredb.cli.main import main
from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound, StoreUnusable
from featuredb.maps import dictionary_map, layout
from featuredb.maps.layout import cost, lay_out, with_direction
from featuredb.maps.plots import check_plot, plot_map
from featuredb.maps.points import MapPoint
from featuredb.progress import Progress
from featuredb.store.store import Store
from featuredb.store.vectors import Rows
from tests import small_store

WIDTH, N_GROUPS, GROUP = 12, 4, 30


@pytest.fixture
def db(tmp_path: Path) -> Iterator[FeatureDB]:
    with FeatureDB(small_store.build(tmp_path / "small.fdb")) as db:
        yield db


@pytest.fixture
def directions(tmp_path: Path) -> Rows:
    """Four groups of thirty near directions, of very different lengths, and a zero row at the end."""
    draw = np.random.default_rng(0)
    middles = draw.standard_normal((N_GROUPS, WIDTH)).repeat(GROUP, axis=0)
    rows = middles + 0.3 * draw.standard_normal(middles.shape)
    rows *= draw.uniform(0.01, 100, (len(rows), 1))
    save_file({"w_dec": np.vstack([rows, np.zeros(WIDTH)]).astype(np.float32)}, tmp_path / "weights.safetensors")
    return Rows(tmp_path / "weights.safetensors", "w_dec")


def in_own_group(at: NDArray[np.float32]) -> float:
    """The share of points whose nearest point is of their own group."""
    apart = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    group = np.arange(len(at)) // GROUP
    return float((group[apart.argmin(axis=1)] == group).mean())


EVERY = np.arange(N_GROUPS * GROUP)


@pytest.mark.slow  # most of it is umap-learn being compiled
def test_features_of_near_directions_lie_near_and_a_seed_gives_the_same_again(directions: Rows) -> None:
    at = lay_out(directions, EVERY, seed=0, neighbors=15)
    assert at.shape == (120, 2)
    assert at.dtype == np.float32
    assert in_own_group(at) > 0.95
    assert np.array_equal(lay_out(directions, EVERY, seed=0, neighbors=15), at)
    assert not np.allclose(lay_out(directions, EVERY, seed=1, neighbors=15), at)


def test_many_features_are_laid_out_by_their_principal_components(
    directions: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.decomposition import PCA

    monkeypatch.setattr(layout, "_CHUNK", 17)
    monkeypatch.setattr(layout, "MANY", 100)
    rows = directions.take(EVERY)
    expected = PCA(5, svd_solver="full").fit_transform(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    found = layout._components(directions, EVERY, 5)
    signs = np.sign((expected * found).sum(axis=0))
    assert np.allclose(found * signs, expected, atol=1e-4)
    assert in_own_group(lay_out(directions, EVERY, seed=0, neighbors=15)) > 0.95


@pytest.mark.parametrize("n", [1, 2, 3, 5, 21])
def test_a_few_features_have_places_of_their_own(directions: Rows, n: int) -> None:
    at = lay_out(directions, EVERY[:n], seed=0, neighbors=15)
    assert at.shape == (n, 2)
    assert np.isfinite(at).all()
    assert len(np.unique(at, axis=0)) == n


def test_what_has_no_direction_has_no_place(directions: Rows) -> None:
    every = np.arange(N_GROUPS * GROUP + 1)
    assert np.array_equal(with_direction(directions, every), EVERY)
    assert len(with_direction(directions, every[:0])) == 0


def test_the_cost_is_said_in_words() -> None:
    assert cost(2_000) == "under a minute"
    assert cost(40_000) == "about 2 min on one core"
    assert cost(1_000_000) == "about 50 min on one core, by 50 principal components"


def test_a_map_is_laid_out_once_and_kept(db: FeatureDB) -> None:
    reports: list[Progress] = []
    first = db.map("alpha", progress=reports.append)
    assert {(report.stage, report.unit) for report in reports} == {("map", "features")}
    assert (reports[-1].done, reports[-1].total) == (7, 7)
    assert [point.index for point in first] == [1, 2, 3, 4, 5, 6, 7], "0 is dead"
    assert first[1].row() == {
        "feature": "alpha/2",
        "dictionary": "alpha",
        "index": 2,
        "label": None,
        "flags": ["under-sampled"],
        "x": first[1].x,
        "y": first[1].y,
        "density": 0.02,
    }
    reports.clear()
    db.add_label("alpha/2", "cats")
    again = db.map("alpha", progress=reports.append)
    assert reports == []
    assert again[1].label == "cats"
    assert [(point.x, point.y) for point in again] == [(point.x, point.y) for point in first]
    forced = db.map("alpha", force=True, progress=reports.append)
    assert reports
    assert forced == again
    assert db.check() == []


def maps(db: FeatureDB) -> list[str]:
    return sorted(path.relative_to(db.path).as_posix() for path in db.path.rglob("*map-*"))


def test_a_dictionary_has_one_map_and_it_goes_with_the_dictionary(db: FeatureDB) -> None:
    db.map("alpha")
    db.map("beta")
    (alpha,) = (name for name in maps(db) if name.startswith("dictionaries/alpha/"))
    db.map("alpha", neighbors=3)
    others = maps(db)
    assert len(others) == 2
    assert alpha not in others
    assert db.check() == []
    db.remove_dictionary("alpha")
    assert maps(db) == [name for name in others if name.startswith("dictionaries/beta/")]
    assert db.check() == []
    with pytest.raises(NotFound, match="no dictionary called 'alpha'"):
        db.map("alpha")


def test_a_dead_feature_without_a_decoder_row_is_on_no_map(db: FeatureDB) -> None:
    assert db.map("alpha", all_features=True) == db.map("alpha")
    assert len(maps(db)) == 1


def test_check_sees_a_damaged_map_and_force_mends_it(db: FeatureDB) -> None:
    before = db.map("alpha")
    (name,) = maps(db)
    (db.path / name).write_bytes(b"not a map")
    assert [fault.object for fault in db.check()] == [name]
    with pytest.raises(StoreUnusable, match="cannot be read as a map") as error:
        db.map("alpha")
    assert error.value.hint == "--force lays it out again"
    assert db.map("alpha", force=True) == before
    assert db.check() == []


def test_an_interruption_leaves_the_old_map_or_none(db: FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "register_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.map("alpha")
    assert (maps(db), list(db.store.paths.work.iterdir())) == ([], [])
    first = db.map("alpha")
    with monkeypatch.context() as patched:
        patched.setattr(dictionary_map, "_remove_others", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.map("alpha", seed=3)
    assert len(maps(db)) == 1
    assert db.map("alpha") == first
    assert db.check() == []


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"dictionary": "alhpa"}, NotFound, "no dictionary called 'alhpa'"),
        ({"dictionary": "alpha", "seed": -1}, BadInput, "no seed -1"),
        ({"dictionary": "alpha", "neighbors": 1}, BadInput, "cannot lay out by 1 neighbors"),
        ({"dictionary": "alpha", "plot": "map.gif"}, BadInput, "map.gif is neither .png nor .svg"),
        ({"dictionary": "alpha", "plot": "nowhere/map.png"}, BadInput, "there is no folder nowhere"),
    ],
)
def test_bad_input_is_refused_before_anything_is_laid_out(
    db: FeatureDB, arguments: dict[str, Any], error: type[BadInput], said: str
) -> None:
    reports: list[Progress] = []
    with pytest.raises(error) as raised:
        db.map(**arguments, progress=reports.append)
    assert (raised.value.message, reports, maps(db)) == (said, [], [])


def test_a_dictionary_of_dead_features_has_no_map(db: FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = db._reader.figures

    def dead(segment: Any) -> dict[str, Any]:
        found = figures(segment)
        return found | {"n_fires": found["n_fires"] * 0}

    monkeypatch.setattr(db._reader, "figures", dead)
    with pytest.raises(BadInput, match="no feature of alpha has fired yet"):
        db.map("alpha")
    assert len(db.map("alpha", all_features=True)) == 7


def points(n: int, **changes: Any) -> list[MapPoint]:
    draw = np.random.default_rng(n)
    at = draw.standard_normal((n, 2)).tolist()
    return [
        MapPoint(
            **{
                "dictionary": "d",
                "index": index,
                "label": f"a $label_{index}$ of \\some length and more" if index % 3 else None,
                "x": x,
                "y": y,
                "density": float(10.0 ** draw.uniform(-6, 0)),
            }
            | changes
        )
        for index, (x, y) in enumerate(at)
    ]


@pytest.mark.parametrize("some", [points(1), points(2), points(600), points(40, density=0.0), points(30, density=0.5)])
def test_a_picture_has_its_size_and_is_not_empty(some: list[MapPoint], tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "map.png"
    plot_map(some, check_plot(path))
    image = imread(path)
    assert image.shape == (1200, 1500, 4)
    assert (image[:, :, :3] < 0.9).any(axis=2).mean() > 0.001
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_labelled_map_names_labels_and_another_names_features(tmp_path: Path) -> None:
    svg = "{http://www.w3.org/2000/svg}text"
    for some, named in ((points(90), "a $label_"), (points(90, label=None), "d/")):
        plot_map(some, tmp_path / "map.svg")
        texts = ["".join(each.itertext()).strip() for each in ElementTree.parse(tmp_path / "map.svg").iter(svg)]
        assert any(text.startswith(named) for text in texts)
        assert "share of tokens on which it fires" in texts
        assert "d: 90 features by decoder direction" in texts


def test_pictures_leave_a_users_own_matplotlib_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_map(points(9), tmp_path / "map.png")
    assert dict(matplotlib.rcParams) == before


def run(db: FeatureDB, *words: str) -> Result:
    return CliRunner(env={"FEATUREDB_DB": str(db.path), "COLUMNS": "80"}).invoke(main, ["map", *words])


def test_the_command_prints_a_table_and_says_what_it_left_out(db: FeatureDB, tmp_path: Path) -> None:
    picture = tmp_path / "map.svg"
    result = run(db, "alpha", "--limit", "3", "--plot", str(picture), "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["feature", "x", "y", "density", "label", "flags"]
    assert len(lines) == 4
    assert all(cell_len(line) <= 80 for line in lines)
    assert picture.stat().st_size > 1000
    noted = run(db, "alpha", "--limit", "3", "--plot", str(picture))
    assert noted.stderr == f"4 features more; --json or --limit 7 shows them\ndrawn to {picture}\n"
    rows = json.loads(run(db, "alpha", "--json").stdout)["rows"]
    assert [row["index"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert set(rows[0]) == set(MapPoint.columns())


@pytest.mark.parametrize(
    ("words", "status"),
    [(["alhpa"], 4), (["alpha", "--plot", "x.gif"], 3), ([], 2), (["alpha", "--neighbors", "1"], 2)],
)
def test_the_command_says_what_is_wrong(db: FeatureDB, words: list[str], status: int) -> None:
    result = run(db, *words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr


def without(modules: str, db: FeatureDB, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where some modules cannot be imported."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({modules.split()!r}));"
        f"from featuredb.cli.main import main; main({['--db', str(db.path), *words]!r})"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_without_the_extra_the_error_names_it(db: FeatureDB, tmp_path: Path) -> None:
    done = without("umap", db, "map", "alpha", "--quiet")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.splitlines()[0].startswith("Error: maps need umap-learn, which cannot be loaded: ")
    assert done.stderr.splitlines()[1] == "  pip install 'featuredb[plots]'"
    done = without("matplotlib", db, "map", "alpha", "--plot", str(tmp_path / "map.png"), "--quiet")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.splitlines()[0].startswith("Error: plots need matplotlib, which cannot be loaded: ")
    assert maps(db) == []
    db.map("alpha")
    done = without("umap matplotlib", db, "map", "alpha", "--json")
    assert (done.returncode, done.stderr) == (0, ""), "a map that is kept needs neither"
    assert len(json.loads(done.stdout)["rows"]) == 7


@pytest.mark.slow
def test_a_fresh_process_says_nothing_of_its_own(db: FeatureDB) -> None:
    words = ["-W", "always", "-m", "featuredb", "map", "alpha", "--json", "--db", str(db.path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ok"]
