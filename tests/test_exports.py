"""Exports: each format as its own users read it, whole or not at all, and back again without loss."""

from __future__ import annotations

import csv
import gzip
import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from featuredb.database import FeatureDB
from featuredb.errors import BadInput
from featuredb.labels.export import export
from featuredb.labels.gather import Gathered
from featuredb.labels.publication import (
    ExportRequest,
    PublishedExample,
    PublishedFeature,
    PublishedLabel,
    PublishedScore,
)
from featuredb.labels.publish import import_publication
from featuredb.plugins import Registry
from featuredb.testing.readers import ExporterContract
from tests.small_publications import plugins, publication, scored_db, small_source


@pytest.fixture
def db(tmp_path: Path) -> Iterator[FeatureDB]:
    with scored_db(tmp_path / "small.fdb") as small:
        yield small


class Contract(ExporterContract):
    dictionary = "alpha"

    @pytest.fixture
    def registry(self) -> Registry:
        return plugins()

    @pytest.fixture
    def db(self, db: FeatureDB) -> FeatureDB:
        return db


class TestNeuronpediaOut(Contract):
    plugin_name = "neuronpedia"


class TestDelphiOut(Contract):
    plugin_name = "delphi"


class TestSaeDashboardOut(Contract):
    plugin_name = "saedashboard"


class TestCsvOut(Contract):
    plugin_name = "csv"


class TestJsonLinesOut(Contract):
    plugin_name = "jsonl"


class TestParquetOut(Contract):
    plugin_name = "parquet"


class TestCircuitTracerOut(Contract):
    plugin_name = "circuit-tracer"


def out(db: FeatureDB, exporter: str, path: Path, dictionary: str = "alpha", **more: Any) -> Path:
    return export(db, dictionary, exporter, path, registry=plugins(), **more).path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


class TestNeuronpedia:
    def test_keys_order_and_batches_are_its_own(self, db: FeatureDB, tmp_path: Path) -> None:
        many = [PublishedFeature(index, density=index / 2_000, promoted=((" a", 0.5),)) for index in range(1_030)]
        import_publication(db.store, publication(*many, name="many", hook="blocks.3.hook_resid_post"))
        source = out(db, "neuronpedia", tmp_path / "out", "many") / "v1" / "tiny-model" / "3-many"
        batches = [rows(source / "features" / f"batch-{number}.jsonl.gz") for number in range(2)]
        assert [len(batch) for batch in batches] == [1_024, 6]
        assert [row["index"] for batch in batches for row in batch] == sorted(map(str, range(1_030)))
        first = batches[0][0]
        # The columns of u/export-data.py, in their order.
        assert list(first) == [
            *("modelId", "layer", "index", "maxActApprox", "creatorId", "frac_nonzero"),
            *("freq_hist_data_bar_heights", "freq_hist_data_bar_values"),
            *("logits_hist_data_bar_heights", "logits_hist_data_bar_values"),
            *("neuron_alignment_indices", "neuron_alignment_l1", "neuron_alignment_values"),
            *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
            *("decoder_weights_dist", "neg_str", "neg_values", "pos_str", "pos_values", "sourceSetName"),
            *("topkCosSimIndices", "topkCosSimValues", "vector", "vectorLabel", "hookName"),
            *("vectorDefaultSteerStrength", "hasVector"),
        ]
        assert (first["modelId"], first["layer"], first["hookName"]) == (
            "tiny-model",
            "3-many",
            "blocks.3.hook_resid_post",
        )
        told = json.loads((source / "source.jsonl").read_text())
        assert (told["id"], told["modelId"], told["setName"]) == ("3-many", "tiny-model", "many")
        assert len(list((source / "activations").iterdir())) == 2

    def test_examples_and_labels_of_a_captured_dictionary(self, db: FeatureDB, tmp_path: Path) -> None:
        source = out(db, "neuronpedia", tmp_path / "out") / "v1" / "tiny" / "0-alpha"
        activations = rows(source / "activations" / "batch-0.jsonl.gz")
        # Feature i of the small store has min(i, 4) examples.
        assert [row["index"] for row in activations] == [str(i) for i in range(8) for _ in range(min(i, 4))]
        row = next(row for row in activations if row["index"] == "7")
        assert (row["tokens"], row["maxValue"], row["maxValueTokenIndex"]) == ([" the", " Cat", " sat"], 7.0, 0)
        assert row["values"] == [7.0, 0.0, 0.0]
        explanations = rows(source / "explanations" / "batch-0.jsonl.gz")
        assert [(row["index"], row["description"], row["typeName"]) for row in explanations] == [
            ("3", 'has, a "comma"', "hand.v1"),
            ("7", "the word Cat", "hand.v1"),
        ]
        assert list(explanations[0])[:9] == [
            *("id", "modelId", "layer", "index", "authorId", "description", "embedding", "typeName"),
            "explanationModelName",
        ]
        found = rows(source / "scores" / "batch-0.jsonl.gz")
        assert [(row["explanationScoreTypeName"], row["value"]) for row in found] == [
            ("detection.v1", 0.875),
            ("rank.v1", 0.5),
            ("fuzz.v1", None),
        ]
        assert {row["explanationId"] for row in found} == {explanations[1]["id"]}

    def test_a_source_comes_back_as_it_came(self, db: FeatureDB, tmp_path: Path) -> None:
        reader = plugins().label_reader("neuronpedia")
        given = reader.read(small_source(tmp_path / "given"))
        import_publication(db.store, given)
        source = out(db, "neuronpedia", tmp_path / "out", given.name) / "v1" / "tiny-model" / "1-res-tiny"
        assert json.loads((source / "model.jsonl").read_text()) == {"id": "tiny-model", "layers": 2, "instruct": False}
        back = reader.read(source)
        assert (back.name, back.hook, back.n_features, back.extra) == (
            given.name,
            given.hook,
            given.n_features,
            given.extra,
        )
        for one, other in zip(given.features, back.features, strict=True):
            assert (other.density, other.promoted, other.suppressed) == (one.density, one.promoted, one.suppressed)
            assert (other.max_activation, other.extra) == (one.max_activation, one.extra)
            assert [label.text for label in other.labels] == [label.text for label in one.labels]
            fires = [example for example in one.examples if any(example.activations)]
            assert [(example.tokens, example.extra) for example in other.examples] == [
                (example.tokens, example.extra) for example in fires
            ]

    def test_labels_alone(self, db: FeatureDB, tmp_path: Path) -> None:
        source = out(db, "neuronpedia", tmp_path / "out", labels_only=True) / "v1" / "tiny" / "0-alpha"
        assert sorted(path.name for path in source.iterdir() if path.is_dir()) == ["explanations", "scores"]


class TestDelphi:
    def test_explanations_and_answers_that_give_the_same_figures(self, db: FeatureDB, tmp_path: Path) -> None:
        folder = out(db, "delphi", tmp_path / "out")
        module = "layers.0.resid_post"
        assert json.loads((folder / "explanations" / f"{module}_latent7.txt").read_text()) == "the word Cat"
        assert sorted(path.name for path in (folder / "explanations").iterdir()) == [
            f"{module}_latent3.txt",
            f"{module}_latent7.txt",
        ]
        answers = json.loads((folder / "scores" / "detection.v1" / f"{module}_latent7.txt").read_text())
        assert len(answers) == 10
        # As delphi/log/result_analysis.py counts them.
        valid = [answer for answer in answers if answer["prediction"] is not None]
        true = [answer for answer in valid if answer["activating"]]
        false = [answer for answer in valid if not answer["activating"]]
        hits = sum(answer["prediction"] >= 0.5 for answer in true) / len(true)
        misses = sum(answer["prediction"] < 0.5 for answer in false) / len(false)
        assert (hits + misses) / 2 == 0.875
        publication = plugins().label_reader("delphi").read(folder)
        label = {feature.index: feature for feature in publication.features}[7].labels[0]
        found = {score.scorer: score for score in label.scores}
        assert (found["detection.v1"].value, found["detection.v1"].n, found["detection.v1"].failed) == (0.875, 8, 2)
        assert (found["rank.v1"].value, found["rank.v1"].baseline) == (0.5, 0.3)
        assert dict(found["rank.v1"].details) == {"low": 0.4, "high": 0.6}
        assert math.isnan(found["fuzz.v1"].value)

    def test_the_shown_label_is_the_one(self, db: FeatureDB, tmp_path: Path) -> None:
        db.add_label("alpha/7", "a newer one")
        folder = out(db, "delphi", tmp_path / "out")
        assert json.loads((folder / "explanations" / "layers.0.resid_post_latent7.txt").read_text()) == "a newer one"

    def test_a_stated_count_does_not_fill_the_disk(self, db: FeatureDB, tmp_path: Path) -> None:
        huge = {"true_positives": 10**9, "false_positives": 1, "true_negatives": 1, "false_negatives": 1}
        label = PublishedLabel("x", "auto", scores=(PublishedScore("detection", 0.75, details=huge),))
        import_publication(db.store, publication(PublishedFeature(1, labels=(label,))), dictionary="beta")
        folder = out(db, "delphi", tmp_path / "out", "beta")
        (path,) = (folder / "scores").rglob("*.txt")
        assert json.loads(path.read_text())["details"] == huge


class TestTables:
    @pytest.mark.parametrize("exporter", ["csv", "jsonl", "parquet"])
    def test_a_row_for_each_score_and_back_again(self, db: FeatureDB, tmp_path: Path, exporter: str) -> None:
        folder = out(db, exporter, tmp_path / "out")
        path = folder / f"labels.{exporter}"
        if exporter == "csv":
            with path.open(encoding="utf-8", newline="") as file:
                found = list(csv.DictReader(file))
            assert [(row["feature"], row["scorer"], row["score"]) for row in found] == [
                ("alpha/3", "", ""),
                ("alpha/7", "detection.v1", "0.875"),
                ("alpha/7", "rank.v1", "0.5"),
                ("alpha/7", "fuzz.v1", ""),
            ]
        elif exporter == "parquet":
            assert pq.read_table(path).column("score").to_pylist() == [None, 0.875, 0.5, None]
        publication = plugins().label_reader("label-table").read(path)
        assert publication.extra["dictionary"] == "alpha"
        by_index = {feature.index: feature.labels for feature in publication.features}
        (label,) = by_index[7]
        assert (label.text, label.labeler, label.author, label.extra["note"]) == (
            "the word Cat",
            "hand.v1",
            "ada",
            "seen",
        )
        rank = label.scores[1]
        assert (rank.value, rank.baseline, rank.details) == (0.5, 0.3, {"low": 0.4, "high": 0.6})
        assert by_index[3][0].text == 'has, a "comma"'
        assert 5 not in by_index, "a failed label is none"

    def test_what_was_imported_is_exported_as_it_was(self, db: FeatureDB, tmp_path: Path) -> None:
        first = out(db, "jsonl", tmp_path / "first") / "labels.jsonl"
        import_publication(db.store, plugins().label_reader("label-table").read(first))
        second = out(db, "jsonl", tmp_path / "second") / "labels.jsonl"
        # Each label twice: the one that was there, and the one that a file says is there.
        assert sorted(second.read_text().splitlines()) == sorted(2 * first.read_text().splitlines())


class TestSaeDashboard:
    def test_batches_as_the_runner_writes_them(self, db: FeatureDB, tmp_path: Path) -> None:
        folder = out(db, "saedashboard", tmp_path / "out")
        batch = json.loads((folder / "batch-0.json").read_text())
        assert list(batch) == ["model_id", "layer", "sae_set", "sae_id_suffix", "features"]
        assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("tiny", 0, "alpha")
        seven = batch["features"][7]
        assert (seven["feature_index"], seven["frac_nonzero"], seven["pos_str"]) == (7, 0.07, [" the"])
        assert seven["activations"][0]["bin_min"] == -1
        back = plugins().label_reader("saedashboard").read(folder)
        features = {feature.index: feature for feature in back.features}
        assert (features[7].max_activation, len(features[7].examples)) == (7.0, 4)


class TestCircuitTracer:
    def unpair(self, number: int) -> tuple[int, int]:
        """util.cantorUnpair of the viewer."""
        w = math.floor((math.sqrt(8 * number + 1) - 1) / 2)
        y = number - (w * w + w) // 2
        return w - y, y

    def test_the_viewer_finds_each_feature(self, db: FeatureDB, tmp_path: Path) -> None:
        from featuredb_plugins.circuit_tracer import cantor_pair

        folder = out(db, "circuit-tracer", tmp_path / "out", "beta") / "features"
        index = json.loads(gzip.decompress((folder / "index.json.gz").read_bytes()))
        for feature in range(5):
            layer, place = self.unpair(cantor_pair(1, feature))
            assert (layer, place) == (1, feature)
            entry = index[str(layer)]
            start, end = entry["offsets"][place], entry["offsets"][place + 1]
            # The viewer asks for start to end, the end included, and inflates whatever header it finds.
            data = (folder / entry["filename"]).read_bytes()[start : end + 1]
            (length,) = struct.unpack("<I", data[:4])
            found = json.loads(zlib.decompress(data[4 : 4 + length], wbits=zlib.MAX_WBITS | 32))
            assert gzip.decompress(data[4 : 4 + length])
            self.holds(found, feature)

    def holds(self, found: dict[str, Any], feature: int) -> None:
        """The fields and types of circuit_tracer.frontend.feature_models.Model."""
        assert (found["transcoder_id"], found["index"]) == ("beta", feature)
        assert (found["act_min"], found["act_max"]) == (0.0, float(feature))
        assert found["activation_frequency"] == pytest.approx(feature / 100)
        assert (found["top_logits"], found["bottom_logits"]) == ([" the"], [" Cat"])
        (group,) = found["examples_quantiles"]
        assert group["quantile_name"] == "Top activations"
        assert len(group["examples"]) == min(feature, 4)
        for example in group["examples"]:
            assert set(example) == {"tokens_acts_list", "train_token_ind", "is_repeated_datapoint", "tokens"}
            assert len(example["tokens"]) == len(example["tokens_acts_list"])
            acts = example["tokens_acts_list"]
            assert acts[example["train_token_ind"]] == max(acts)
        assert found["quantile_values"] == found["histogram"] == []

    def test_percentiles_and_histogram_are_those_of_the_uniform_sample(self) -> None:
        from featuredb_plugins.circuit_tracer import _feature

        peaks = np.linspace(0.5, 4, 30)
        sample = tuple(PublishedExample((" a",), (float(peak),), extra={"kind": "sample"}) for peak in peaks)
        examples = (*sample, PublishedExample((" b",), (5.0,)))
        found = _feature(PublishedFeature(0, density=0.5, max_activation=5.0, examples=examples), "d")
        names = [group["quantile_name"] for group in found["examples_quantiles"]]
        assert names == ["Top activations", "Uniform sample"]
        assert found["quantile_values"] == pytest.approx(np.percentile(peaks, np.arange(101)).tolist())
        assert (len(found["histogram"]), sum(found["histogram"])) == (50, 30)

    def test_a_dictionary_in_no_layer_is_refused(self, db: FeatureDB, tmp_path: Path) -> None:
        import_publication(db.store, publication(PublishedFeature(0, density=0.5), hook=None, name="nowhere"))
        with pytest.raises(BadInput, match="nowhere reads at no known hook, which is in no layer"):
            out(db, "circuit-tracer", tmp_path / "out", "nowhere")
        assert not (tmp_path / "out").exists()


def test_gathering_takes_any_features_in_any_order(db: FeatureDB) -> None:
    with Gathered(ExportRequest(db, "alpha", n_examples=2)) as gathered:
        found = list(gathered.take([7, 0, 3]))
        assert [(one.index, len(one.examples), len(one.labels)) for one in found] == [(7, 2, 1), (0, 0, 0), (3, 2, 1)]
        assert found[0].examples[0].source == "one.txt"
        assert gathered.publication().extra == {}
        assert len(list(gathered.publication().features)) == 8
