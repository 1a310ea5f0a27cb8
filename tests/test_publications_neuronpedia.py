"""Neuronpedia's exports: what is read of them, and every way in which they are known to mislead a reader."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from featuredb.errors import BadInput, NotFound
from featuredb.labels import feature_spool
from featuredb.labels.publication import Publication, PublishedFeature
from featuredb.labels.published_files import MAX_ROW
from featuredb.plugins import LabelReader, Registry
from featuredb.testing.readers import ReaderContract
from tests.small_publications import (
    MODEL,
    SOURCE,
    activation_row,
    explanation_row,
    feature_row,
    neuronpedia_source,
    plugins,
    small_source,
    write_rows,
)


class TestNeuronpedia(ReaderContract):
    plugin_name = "neuronpedia"

    @pytest.fixture
    def registry(self) -> Registry:
        return plugins()

    def make_source(self, folder: Path) -> Path:
        return small_source(folder)


def reader() -> LabelReader:
    return plugins().label_reader("neuronpedia")


def read(source: Path) -> tuple[Publication, dict[int, PublishedFeature]]:
    publication = reader().read(source)
    return publication, {feature.index: feature for feature in publication.features}


def test_a_feature_is_put_together_from_three_folders_that_do_not_line_up(tmp_path: Path) -> None:
    publication, features = read(small_source(tmp_path))
    assert (publication.name, publication.model, publication.hook) == (
        f"{MODEL}-{SOURCE}",
        MODEL,
        "blocks.1.hook_resid_pre",
    )
    assert (publication.n_features, publication.extra["n_tokens"], publication.extra["layer"]) == (12, 800, 1)
    assert publication.warnings == ()
    assert list(features) == list(range(12))
    ten = features[10]
    assert (ten.density, ten.max_activation) == (0.01, 10.5)
    assert (ten.promoted, ten.suppressed) == (((" yes", 1.25), (" Yes", 1.0)), ((" no", -0.75), ("ſ", -0.5)))
    (example,) = ten.examples
    assert (example.tokens, example.activations) == ((" the", " w10", "."), (0.0, 10.5, 0.25))
    assert example.extra == {"binMin": -1, "binMax": 99, "binContains": -1}
    (label,) = ten.labels
    assert (label.text, label.labeler, label.model, label.author) == (
        "the word w10",
        "oai_token-act-pair",
        "gpt-4o-mini",
        None,
    )
    assert "embedding" not in label.extra
    assert ten.extra["freq_hist_data_bar_heights"] == [3, 2, 1]


@pytest.mark.parametrize("where", ["v1", f"v1/{MODEL}", f"v1/{MODEL}/{SOURCE}", ""])
def test_the_source_is_found_from_any_folder_above_it(tmp_path: Path, where: str) -> None:
    small_source(tmp_path)
    assert reader().recognises(tmp_path / where)
    assert read(tmp_path / where)[0].n_features == 12


def test_of_several_sources_one_must_be_named(tmp_path: Path) -> None:
    small_source(tmp_path)
    write_rows(tmp_path / "v1" / MODEL / "2-res-tiny" / "explanations" / "batch-0.jsonl.gz", [])
    with pytest.raises(BadInput, match="holds 2 sources") as told:
        read(tmp_path)
    assert SOURCE in (told.value.hint or "")


@pytest.mark.parametrize("name", ["explanations", "batch", "folder"])
def test_labels_alone_are_a_publication_too(tmp_path: Path, name: str) -> None:
    rows = [explanation_row("5", "five"), explanation_row("11", "eleven")]
    source = neuronpedia_source(tmp_path, explanations={0: rows})
    at = {"explanations": source, "folder": source / "explanations"}.get(name, source / "explanations/batch-0.jsonl.gz")
    assert reader().recognises(at)
    publication, features = read(at)
    assert publication.n_features == 12
    assert [feature.labels[0].text for feature in features.values()] == ["five", "eleven"]
    assert features[5].density is None


def test_an_index_may_be_a_number_or_text(tmp_path: Path) -> None:
    source = neuronpedia_source(
        tmp_path,
        features={0: [feature_row(7)]},
        activations={0: [activation_row("7", [" a"], [1.0])]},
        explanations={0: [explanation_row(7, "seven")]},
    )
    _, features = read(source)
    assert [(len(one.examples), len(one.labels), one.density) for one in features.values()] == [(1, 1, 0.0125)]


@pytest.mark.parametrize("index", ["-1", "1.0", 1.5, True, None, "x", [1], str(2**26), 10**30, "٣"])
def test_an_index_that_is_none_names_file_and_row(tmp_path: Path, index: Any) -> None:
    rows = [feature_row("0"), feature_row(index)]
    with pytest.raises(BadInput, match=r"features.batch-0\.jsonl\.gz, row 2: index is"):
        read(neuronpedia_source(tmp_path, features={0: rows}))


def test_nuls_and_half_characters_are_taken_out(tmp_path: Path) -> None:
    source = neuronpedia_source(
        tmp_path,
        features={0: [feature_row("0", pos_str=["a\0b", "\ud83d"], pos_values=[1, 2])]},
        activations={0: [activation_row("0", ["\0", "é\ud800", "😀"], [0, 1, 0])]},
        explanations={0: [explanation_row("0", "x\0y\udc00z")]},
    )
    _, features = read(source)
    assert features[0].promoted == (("ab", 1.0), ("\ufffd", 2.0))
    assert features[0].examples[0].tokens == ("", "é\ufffd", "😀")
    assert features[0].labels[0].text == "xy\ufffdz"


def test_batches_that_are_missing_are_said(tmp_path: Path) -> None:
    source = neuronpedia_source(
        tmp_path,
        features={number: [feature_row(str(number))] for number in (0, 2, 6, 7)},
        activations={1: [activation_row("1", [" a"], [1.0])]},
        explanations={0: [explanation_row("9", "nine")]},
    )
    (source / "explanations" / "batch-1.jsonl.gz").write_bytes(b"")
    assert read(source)[0].warnings == (
        "features: of batches 0 to 7, 1, 3-5 are missing",
        "activations: of batches 0 to 1, 0 is missing",
        "explanations/batch-1.jsonl.gz is empty",
        "6 of 10 features have no row, so nothing is known of their figures",
    )


def test_what_is_repeated_word_for_word_is_there_once(tmp_path: Path) -> None:
    again = activation_row("0", [" a"], [1.0], id="another-id")
    source = neuronpedia_source(
        tmp_path,
        features={0: [feature_row("0")], 1: [feature_row(0, createdAt="2026-01-01")]},
        activations={0: [activation_row("0", [" a"], [1.0]), again]},
        explanations={0: [explanation_row("0", "zero")], 1: [explanation_row("0", "zero")]},
    )
    publication, features = read(source)
    assert (len(features[0].examples), len(features[0].labels)) == (1, 1)
    assert publication.warnings == ("1 rows of features are repeated",)


def test_two_rows_of_a_feature_that_differ_are_refused(tmp_path: Path) -> None:
    source = neuronpedia_source(tmp_path, features={0: [feature_row("3")], 1: [feature_row("3", maxActApprox=1)]})
    with pytest.raises(BadInput, match=r"batch-1.*, row 1: feature 3 again, and otherwise than in .*batch-0.*, row 1"):
        read(source)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (feature_row("1", modelId="other"), "a row of other/1-res-tiny among those of tiny-model/1-res-tiny"),
        (feature_row("1", layer="2-res-tiny"), "a row of tiny-model/2-res-tiny among"),
        (feature_row("1", layer=None), "no modelId or no layer"),
        (feature_row("1", frac_nonzero="0.5"), "frac_nonzero is '0.5', not a number"),
        (feature_row("1", maxActApprox=1e39), "maxActApprox is 1e\\+39, not a number"),
        (feature_row("1", pos_str=[" a"]), "1 pos_str and 2 pos_values"),
        (feature_row("1", neg_str=[1, 2]), "neg_str is not a list of texts"),
        (feature_row("1", vector=[True]), "vector is not a list of numbers"),
        (activation_row("1", [" a", " b"], [1.0]), "2 tokens and 1 values"),
        (activation_row("1", " a", [1.0]) | {"tokens": " a"}, "tokens is not a list of texts"),
        (activation_row("1", [" a"], [1.0]) | {"values": ["1"]}, "values is not a list of numbers"),
        (activation_row("1", [" a"] * 70_000, [1.0] * 70_000), "an example of 70,000 tokens"),
        (explanation_row("1", "x") | {"description": 5}, "description is 5, not text"),
        (explanation_row("1", "x", typeName=["a"]), r"typeName is \['a'\], not text"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=rf"batch-0\.jsonl\.gz, row 2: {reason}"):
        read(neuronpedia_source(tmp_path, features={0: [feature_row("0"), row]}))


def test_a_source_that_is_of_another_model_is_refused(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    write_rows(source / "source.jsonl", [{"id": "9-other"}])
    with pytest.raises(BadInput, match="it is of '9-other', and the batches of '1-res-tiny'"):
        read(source)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"index": "0"', "row 2: not JSON: .* at character"),
        (b"[1, 2]", "row 2: not a JSON object"),
        (b'{"index": NaN}', "row 2: not readable: NaN is not a number in JSON"),
        (b'{"index": "\xff"}', "row 2: byte 0xff at 11 is not UTF-8"),
        (b"[" * 200_000, "row 2: nested too deep"),
        (b'{"index": ' + b"9" * 5_000 + b"}", "row 2: not readable"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    source = neuronpedia_source(tmp_path, features={})
    text = json.dumps(feature_row("0")).encode() + b"\n" + line + b"\n"
    (source / "features").mkdir()
    (source / "features" / "batch-0.jsonl.gz").write_bytes(gzip.compress(text))
    with pytest.raises(BadInput, match=reason):
        read(source)


def test_a_batch_that_breaks_off_is_refused(tmp_path: Path) -> None:
    batch = small_source(tmp_path) / "activations" / "batch-0.jsonl.gz"
    batch.write_bytes(batch.read_bytes()[:-9])
    with pytest.raises(BadInput, match="broken gzip after row"):
        read(tmp_path)


def test_a_row_that_unpacks_to_more_than_memory_is_refused(tmp_path: Path) -> None:
    batch = small_source(tmp_path) / "activations" / "batch-0.jsonl.gz"
    with gzip.open(batch, "wb", compresslevel=1) as file:
        file.write(b'{"modelId": "')
        for _ in range((MAX_ROW >> 20) + 1):
            file.write(b"a" * 2**20)
    assert batch.stat().st_size < 2**20
    with pytest.raises(BadInput, match="row 1: longer than 64 MB"):
        read(tmp_path)


def test_the_order_of_rows_and_batches_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "features": [feature_row(str(index), maxActApprox=index) for index in range(300)],
        "activations": [
            activation_row(str(index), [f" w{n}", " x"], [n + 1, 1]) for index in range(300) for n in range(3)
        ],
        "explanations": [explanation_row(str(index), f"{index}, {n}") for index in range(300) for n in range(2)],
    }
    found = []
    for seed in range(3):
        order = random.Random(seed)
        batches: dict[str, dict[int, list[dict[str, Any]]]] = {}
        for name, given in rows.items():
            shuffled = order.sample(given, len(given))
            cut = order.randrange(1, len(given))
            batches[name] = {0: shuffled[:cut], 1: shuffled[cut:]}
        if seed == 2:  # as if there were more than memory holds
            monkeypatch.setattr(feature_spool, "HELD", 10_000)
        found.append(list(reader().read(neuronpedia_source(tmp_path / str(seed), **batches)).features))
    assert found[0] == found[1] == found[2]
    assert [feature.index for feature in found[0]] == list(range(300))


def test_too_much_for_few_features_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_spool, "LARGEST", 2_000)
    with pytest.raises(BadInput, match="features 0 to 127 have more than"):
        read(small_source(tmp_path))


def test_what_goes_to_the_disk_meanwhile_goes_with_the_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spools = tmp_path / "temporary"
    spools.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spools))
    monkeypatch.setattr(feature_spool, "HELD", 100)
    publication = reader().read(small_source(tmp_path / "source"))
    assert len(list(spools.iterdir())) == 1
    assert len(list(publication.features)) == 12
    del publication
    assert list(spools.iterdir()) == []


class TestScores:
    def test_they_lie_beside_and_find_their_label(self, tmp_path: Path) -> None:
        source = small_source(tmp_path)
        label = explanation_row("10", "the word w10")
        score = {
            **{name: label[name] for name in ("modelId", "layer", "index")},
            "id": "s1",
            "explanationId": label["id"],
            "value": 0.8125,
            "explanationScoreTypeName": "eleuther_fuzz",
            "explanationScoreModelName": "gpt-4o-mini",
            "jsonDetails": json.dumps({"n": 40, "failed": 1, "baseline": 0.5, "threshold": 0.3}),
        }
        write_rows(source / "scores" / "batch-0.jsonl.gz", [score])
        _, features = read(source)
        (found,) = features[10].labels[0].scores
        assert (found.scorer, found.value, found.judge) == ("eleuther_fuzz", 0.8125, "gpt-4o-mini")
        assert (found.n, found.failed, found.baseline, dict(found.details)) == (40, 1, 0.5, {"threshold": 0.3})

    def test_one_of_no_label_is_refused(self, tmp_path: Path) -> None:
        source = small_source(tmp_path)
        score = {"modelId": MODEL, "layer": SOURCE, "index": "10", "explanationId": "none", "value": 1}
        write_rows(source / "scores" / "batch-0.jsonl.gz", [score])
        with pytest.raises(BadInput, match=r"scores.batch-0\.jsonl\.gz, row 1: a score of an explanation that is not"):
            read(source)

    def test_those_of_the_web_api_are_read_where_they_stand(self, tmp_path: Path) -> None:
        score = {"value": 0.5, "explanationScoreTypeName": "recall_alt", "jsonDetails": "not JSON"}
        rows = [explanation_row("0", "zero", scores=[score])]
        _, features = read(neuronpedia_source(tmp_path, explanations={0: rows}))
        (found,) = features[0].labels[0].scores
        assert (found.scorer, found.value, dict(found.details)) == ("recall_alt", 0.5, {"jsonDetails": "not JSON"})


def test_a_folder_of_nothing_and_a_path_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read(tmp_path / "none")
    with pytest.raises(BadInput, match=r"holds no batch-0\.jsonl\.gz"):
        read(tmp_path)
    write_rows(tmp_path / "features" / "batch-0.jsonl.gz", [])
    with pytest.raises(BadInput, match="holds no row"):
        read(tmp_path)
