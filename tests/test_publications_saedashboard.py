"""SAEDashboard's batch files: figures and examples, read feature by feature however large the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from featuredb.errors import BadInput
from featuredb.labels import json_stream
from featuredb.labels.json_stream import JsonStream
from featuredb.labels.publication import Publication, PublishedFeature
from featuredb.plugins import LabelReader, Registry
from featuredb.testing.readers import ReaderContract
from tests.small_publications import MODEL, dashboard_feature, dashboard_folder, plugins, write_json


class TestSaeDashboard(ReaderContract):
    plugin_name = "saedashboard"

    @pytest.fixture
    def registry(self) -> Registry:
        return plugins()

    def make_source(self, folder: Path) -> Path:
        return dashboard_folder(folder)


def reader() -> LabelReader:
    return plugins().label_reader("saedashboard")


def read(source: Path) -> tuple[Publication, dict[int, PublishedFeature]]:
    publication = reader().read(source)
    return publication, {feature.index: feature for feature in publication.features}


def test_batches_of_a_run(tmp_path: Path) -> None:
    publication, features = read(dashboard_folder(tmp_path))
    assert (publication.name, publication.model) == (f"{MODEL}-1-res-tiny", MODEL)
    # The folder's name says where the dictionary reads, and how wide it is.
    assert (publication.hook, publication.n_features) == ("layers.1.resid_post", 64)
    assert (publication.extra["n_tokens"], publication.extra["dataset"]) == (3_200, "org/texts")
    assert list(features) == [0, 4, 9]
    four = features[4]
    assert (four.density, four.max_activation) == (0.00123, 5.5)
    assert (four.promoted, four.suppressed) == (((" yes", 2.5),), ((" no", -1.5),))
    assert [example.activations for example in four.examples] == [(0.0, 5.5, 0.25), (0.0, 0.5)]
    assert four.examples[1].extra == {
        "bin_min": 0.25,
        "bin_max": 0.75,
        "bin_contains": 0.1,
        "qualifying_token_index": 1,
    }
    assert four.extra["neuron_alignment_l1"] == [0.1, 0.05]


def test_without_the_strongest_contexts_the_largest_is_not_known(tmp_path: Path) -> None:
    row = dashboard_feature(0)
    row["activations"] = row["activations"][1:]
    _, features = read(dashboard_folder(tmp_path, {0: [row]}))
    assert features[0].max_activation is None


def test_batches_that_are_missing_are_said(tmp_path: Path) -> None:
    folder = dashboard_folder(tmp_path, {number: [dashboard_feature(number)] for number in (0, 3, 4)})
    assert read(folder)[0].warnings == ("of batches 0 to 4, 1-2 are missing",)


@pytest.mark.parametrize("form", ["one", "list", "gzip", "pretty", "batch"])
def test_files_of_features_in_other_forms(tmp_path: Path, form: str) -> None:
    value: Any = [dashboard_feature(3)] if form == "list" else dashboard_feature(3)
    if form == "batch":
        value = {"features": [value], "layer": 2, "note": {"features": []}, "model_id": "late"}
    text = json.dumps(value, indent=2 if form == "pretty" else None).encode()
    path = tmp_path / ("feature_3.json.gz" if form == "gzip" else "feature_3.json")
    path.write_bytes(gzip.compress(text) if form == "gzip" else text)
    assert reader().recognises(path)
    publication, features = read(path)
    assert features[3].density == 0.00123
    assert publication.model == ("late" if form == "batch" else "")


def test_a_feature_in_two_batches_must_say_the_same(tmp_path: Path) -> None:
    same = {0: [dashboard_feature(3)], 1: [dashboard_feature(3)]}
    assert list(read(dashboard_folder(tmp_path / "same", same))[1]) == [3]
    other = {0: [dashboard_feature(3)], 1: [dashboard_feature(1), dashboard_feature(3, frac_nonzero=0.5)]}
    with pytest.raises(BadInput, match=r"batch-1\.json, row 2: feature 3 again, and otherwise than in .*batch-0"):
        read(dashboard_folder(tmp_path / "other", other))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"model_id": "m", "features": [{"feature_index": 1}', "it ends too early"),
        ('{"model_id": "m", "features": [{"feature_index": 1} {}]}', "'{' where ',' is due"),
        ('{"model_id": "m", "features": [{"feature_index": 1, "x": [}]}', "not JSON"),
        ('{"model_id": "m", "features": [5]}', "row 1: not a JSON object, as a feature is"),
        ('{"model_id": "m", "features": 5}', "not a JSON object, as a feature is"),
        ('{"model_id": "m"}', "no features, and no feature_index"),
        ('{"features": [{"feature_index": 1}]} x', "more after its end"),
        ('{"features": [{"feature_index": -1}]}', "row 1: feature_index is -1"),
        ('{"features": [{"feature_index": 1, "activations": [1]}]}', "row 1: activations is not a list of objects"),
        ("{5: 1}", "a key that is no text"),
        ('"features"', "where '{' is due"),
        ("[" * 100_000, "nested too deep"),
        ('{"features": [{"feature_index": 1, "frac_nonzero": NaN}]}', "NaN is not a number"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "batch-0.json").write_text(text)
    with pytest.raises(BadInput, match=rf"batch-0\.json.*{reason}"):
        read(tmp_path)


def test_batches_of_two_dictionaries_are_refused(tmp_path: Path) -> None:
    folder = dashboard_folder(tmp_path)
    head = {"model_id": MODEL, "layer": 2, "sae_set": "res-tiny", "sae_id_suffix": None}
    write_json(folder / "batch-2.json", head | {"features": [dashboard_feature(20)]})
    with pytest.raises(BadInput, match=r"batch-2\.json: of tiny-model/2/res-tiny, and the batches before it of"):
        read(folder)


class TestJsonStream:
    @pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
    def test_pieces_of_any_size_give_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
    ) -> None:
        value = {"a": [1, -2.5e3, True, None, 'é😀\\"'], "many": [{"x": "y" * 50}, 12, "z", []], "last": 123456}
        path = tmp_path / "value.json"
        path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        monkeypatch.setattr(json_stream, "_PIECE", piece)
        stream = JsonStream(path)
        found = list(stream.members("many"))
        stream.end()
        assert found == [
            ("a", value["a"]),
            ("many", None),
            *(("many", item) for item in value["many"]),  # type: ignore[attr-defined]
            ("last", 123456),
        ]

    def test_one_value_may_not_fill_the_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_stream, "_PIECE", 100)
        monkeypatch.setattr("featuredb.labels.published_files.MAX_ROW", 1_000)
        path = tmp_path / "value.json"
        path.write_text(json.dumps({"many": ["x" * 500] * 50}))
        assert len(list(JsonStream(path).members("many"))) == 51
        path.write_text(json.dumps({"many": ["x" * 5_000]}))
        with pytest.raises(BadInput, match="a value of more than"):
            list(JsonStream(path).members("many"))
