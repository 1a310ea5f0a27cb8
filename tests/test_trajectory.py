"""Trajectories against plain transformers and scikit-learn's PCA, of texts and of concepts, drawn and typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from rich.cells import cell_len

import featuredb
from featuredb.cli.main import main
from featuredb.concepts.catalog import Made, keep
from featuredb.concepts.texts import Texts
from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound
from featuredb.maps.plots import check_plot, plot_trajectory
from featuredb.maps.points import TrajectoryPoint
from featuredb.maps.trajectory import principal
from tests.small_ingest import random_dictionary, request, save_corpus, save_model, texts

N_LAYERS = 4
UP, DOWN = ("THE RIVER", "A LAMP (BETWEEN)", "DOOR 12"), ("the river", "a lamp (between)")
TEXTS = ("the river under the WINDOW", "x = y + z")
Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    model = save_model(folder / "model", num_hidden_layers=N_LAYERS)
    random_dictionary(folder / "top", "topk", 1)
    with featuredb.open(folder / "paths.fdb", create=True) as db:
        db.ingest(request(model, [folder / "top"], save_corpus(folder / "corpus.jsonl", texts(8))))
        fingerprint = db.ls("models")[0].fingerprint
        direction = {"layers.1.resid_post": np.ones(32, np.float32)}
        settings = {"token": "last", "chat": False, "source": str(model)}
        made = Made("capitals", "lda", direction, {}, settings, Texts(UP, DOWN), "model", fingerprint)
        keep(db.store, made)
        keep(db.store, Made("bare", "file", direction, {}, {}))
        mean = Made("mean", "lda", direction, {}, settings | {"token": "mean"}, Texts(UP, DOWN), "model", fingerprint)
        keep(db.store, mean)
    return folder / "paths.fdb"


@pytest.fixture(scope="module")
def db(path: Path) -> Iterator[FeatureDB]:
    with featuredb.open(path) as db:
        yield db


class Streams:
    """Each text's residual stream by forward hooks on plain transformers."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def __call__(self, text: str, token: str = "last") -> Matrix:
        """(1 + layers, d)"""
        found: list[torch.Tensor] = []
        blocks = self.model.transformer.h
        handles = [blocks[0].register_forward_pre_hook(lambda _, args: found.append(args[0]))]
        handles += [
            block.register_forward_hook(
                lambda _, __, output: found.append(output[0] if isinstance(output, tuple) else output)
            )
            for block in blocks
        ]
        self.model(torch.tensor([[0, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]]))
        for handle in handles:
            handle.remove()
        each = torch.stack([one.reshape(-1, one.shape[-1])[1:] for one in found]).double()
        stream: Matrix = (each[:, -1] if token == "last" else each.mean(dim=1)).numpy()
        return stream


@pytest.fixture(scope="module")
def streams(path: Path) -> Streams:
    return Streams(path.parent / "model")


def unit(stream: Matrix) -> Matrix:
    lengths: Matrix = np.linalg.norm(stream, axis=1, keepdims=True)
    return stream / lengths


def expect(points: Sequence[TrajectoryPoint], paths: Sequence[Matrix], n_components: int = 2) -> None:
    """The points are scikit-learn's principal components of those paths, each up to its sign."""
    from sklearn.decomposition import PCA

    pca = PCA(n_components, svd_solver="full")
    expected = pca.fit_transform(np.concatenate(paths))
    found = np.array([(one.x, one.y, one.z)[:n_components] for one in points], dtype=np.float64)
    assert np.allclose(found * np.sign((found * expected).sum(axis=0)), expected, rtol=1e-3, atol=1e-4)
    assert (found[np.abs(found).argmax(axis=0), range(n_components)] > 0).all()
    for one in points:
        assert one.explained == pytest.approx(pca.explained_variance_ratio_, rel=1e-3)
        assert (one.z is None) == (n_components == 2)


def test_texts_paths_are_the_principal_components_of_their_unit_states(db: FeatureDB, streams: Streams) -> None:
    points = db.trajectory(TEXTS)
    expect(points, [unit(streams(text)) for text in TEXTS])
    assert [one.path for one in points] == [text for text in TEXTS for _ in range(N_LAYERS + 1)]
    hooks = ["embed", *(f"layers.{layer}.resid_post" for layer in range(N_LAYERS))]
    assert [(one.hook, one.layer) for one in points[: N_LAYERS + 1]] == list(
        zip(hooks, [None, *range(N_LAYERS)], strict=True)
    )
    norms = np.concatenate([np.linalg.norm(streams(text), axis=1) for text in TEXTS])
    assert np.allclose([one.norm for one in points], norms, rtol=1e-4)
    assert {(one.model, one.n_texts) for one in points} == {("model", 1)}


def test_states_may_stay_raw_come_from_the_mean_token_and_show_three_components(
    db: FeatureDB, streams: Streams
) -> None:
    expect(db.trajectory(TEXTS, raw=True), [streams(text) for text in TEXTS])
    expect(db.trajectory(TEXTS, token="mean"), [unit(streams(text, "mean")) for text in TEXTS])
    expect(db.trajectory(TEXTS[0], components=3), [unit(streams(TEXTS[0]))], 3)


def test_a_concept_has_a_path_for_each_side_through_the_mean_of_its_texts(db: FeatureDB, streams: Streams) -> None:
    points = db.trajectory(["capitals", TEXTS[0]])
    sides = [np.mean([unit(streams(text)) for text in side], axis=0) for side in (UP, DOWN)]
    expect(points, [*sides, unit(streams(TEXTS[0]))])
    assert list(dict.fromkeys((one.path, one.n_texts) for one in points)) == [
        ("capitals, positive", 3),
        ("capitals, negative", 2),
        (TEXTS[0], 1),
    ]
    norms = np.mean([np.linalg.norm(streams(text), axis=1) for text in UP], axis=0)
    assert np.allclose([one.norm for one in points[: N_LAYERS + 1]], norms, rtol=1e-4)


def test_a_concept_is_read_where_it_was_made_unless_told_otherwise(db: FeatureDB, streams: Streams) -> None:
    def sides(token: str) -> list[Matrix]:
        return [np.mean([unit(streams(text, token)) for text in side], axis=0) for side in (UP, DOWN)]

    expect(db.trajectory("mean"), sides("mean"))
    expect(db.trajectory("mean", token="last"), sides("last"))


def test_the_same_text_twice_is_one_path(db: FeatureDB) -> None:
    assert db.trajectory([TEXTS[0], TEXTS[0]]) == db.trajectory(TEXTS[0])


def test_a_model_is_named_as_the_store_knows_it_or_by_where_it_lies(db: FeatureDB, path: Path, tmp_path: Path) -> None:
    expected = db.trajectory(TEXTS)
    assert db.trajectory(TEXTS, model="model") == expected
    assert db.trajectory(TEXTS, model=str(path.parent / "model")) == expected
    other = save_model(tmp_path / "other", seed=3, num_hidden_layers=2)
    points = db.trajectory(TEXTS, model=str(other))
    assert {one.model for one in points} == {"other"}
    assert len(points) == 2 * 3
    assert {one.model for one in db.trajectory("capitals", model=str(other))} == {"other"}
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="no model at"):
        db.trajectory(TEXTS, model=nowhere)


def test_a_concepts_model_must_still_be_the_one_it_was_made_with(db: FeatureDB, path: Path) -> None:
    settings = {"token": "last", "source": str(path.parent / "model")}
    texts_of = Texts(("A",), ("a",))
    keep(db.store, Made("stale", "lda", {"embed": np.ones(32, np.float32)}, {}, settings, texts_of, "model", "f00d"))
    with pytest.raises(BadInput, match="is not the one that the concept was made with"):
        db.trajectory("stale")
    with pytest.raises(BadInput, match="the concepts are of different models"):
        db.trajectory(["stale", "capitals"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"what": []}, "there is no text"),
        ({"what": " "}, "the text is empty"),
        ({"what": "<|endoftext|>"}, "the text '<|endoftext|>' has no ordinary tokens for model"),
        ({"what": "bare"}, "the concept 'bare' has no texts, so there is no path"),
        ({"what": "a", "components": 4}, "cannot show 4 components"),
        ({"what": "a", "token": "all"}, "no choice of tokens 'all'"),
        ({"what": "a", "plot": "a.jpg"}, "a.jpg is neither .png nor .svg"),
    ],
)
def test_what_has_no_path_is_refused(db: FeatureDB, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as error:
        db.trajectory(**arguments)
    assert error.value.message == said


def test_points_that_span_fewer_dimensions_lie_flat() -> None:
    at, shares = principal(np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]]), 3)
    assert np.allclose(np.abs(at[:, 0]), 2.5)
    assert not at[:, 1:].round(12).any()
    assert shares == pytest.approx((1.0, 0.0, 0.0))
    at, shares = principal(np.ones((4, 3)), 2)
    assert not at.any()
    assert shares == (0.0, 0.0)


@pytest.mark.parametrize("components", [2, 3])
def test_a_picture_has_its_size_and_is_not_empty(db: FeatureDB, tmp_path: Path, components: int) -> None:
    from matplotlib.image import imread

    picture = tmp_path / "paths.png"
    db.trajectory(["capitals", *TEXTS], components=components, plot=picture)
    image = imread(picture)
    assert image.shape == (1050, 1350, 4)
    coloured = image[:, :, :3].max(axis=2) - image[:, :, :3].min(axis=2) > 0.3
    assert coloured.mean() > 0.002
    assert sorted(tmp_path.iterdir()) == [picture]


def test_a_picture_of_many_hostile_paths_is_drawn(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    points = [
        TrajectoryPoint(
            path=f"$x_{{ \\frac \x1b[2J\u202e 漢字 {path}",
            model="a $ model",
            n_texts=1,
            hook="embed",
            layer=layer or None,
            x=x,
            y=y,
            z=None,
            norm=1.0,
            explained=(0.5, 0.2),
        )
        for path in range(9)
        for layer, (x, y) in enumerate(draw.standard_normal((50, 2)).tolist())
    ]
    plot_trajectory(points, check_plot(tmp_path / "paths.svg"))
    assert "\x1b" not in (tmp_path / "paths.svg").read_text(encoding="utf-8")


def run(path: Path, *words: str) -> Result:
    return CliRunner(env={"FEATUREDB_DB": str(path), "COLUMNS": "80"}).invoke(main, ["trajectory", *words])


def test_the_command_prints_points_and_draws_them(path: Path, tmp_path: Path) -> None:
    picture = tmp_path / "paths.png"
    result = run(path, "capitals", TEXTS[0] * 9, "--plot", str(picture))
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == f"drawn to {picture}"
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["path", "layer", "x", "y", "norm"]
    assert all(cell_len(line) <= 80 for line in lines)
    assert picture.stat().st_size > 10_000
    three = run(path, *TEXTS, "--components", "3", "--json")
    assert three.stderr == ""
    rows = json.loads(three.stdout)["rows"]
    assert len(rows) == 2 * (N_LAYERS + 1)
    assert set(rows[0]) == set(TrajectoryPoint.columns())
    assert rows[0]["layer"] is None
    assert rows[0]["z"] is not None


@pytest.mark.parametrize(
    ("words", "status"),
    [(["bare"], 3), ([" "], 3), (["a", "--model", "no/such/model"], 4), ([], 2), (["a", "--components", "4"], 2)],
)
def test_the_command_says_what_is_wrong(path: Path, words: list[str], status: int) -> None:
    result = run(path, *words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr


def test_without_matplotlib_there_are_points_and_no_picture(path: Path, tmp_path: Path) -> None:
    def without(*words: str) -> subprocess.CompletedProcess[str]:
        program = (
            "import sys; sys.modules['matplotlib'] = None;"
            f"from featuredb.cli.main import main; main({['--db', str(path), 'trajectory', 'a b', *words]!r})"
        )
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    refused = without("--plot", str(tmp_path / "paths.png"), "--quiet")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr.splitlines()[1] == "  pip install 'featuredb[plots]'"
    done = without("--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["rows"]) == N_LAYERS + 1
