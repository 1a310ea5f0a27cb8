"""Delphi's results: labels that failed stay failed, and each score is worked out again from the answers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import balanced_accuracy_score

from featuredb.errors import BadInput, NotFound
from featuredb.labels.publication import Publication, PublishedFeature, PublishedScore
from featuredb.plugins import LabelReader, Registry
from featuredb.testing.readers import ReaderContract
from tests.small_publications import classified, delphi_folder, plugins, write_json


class TestDelphi(ReaderContract):
    plugin_name = "delphi"

    @pytest.fixture
    def registry(self) -> Registry:
        return plugins()

    def make_source(self, folder: Path) -> Path:
        return delphi_folder(folder)


def reader() -> LabelReader:
    return plugins().label_reader("delphi")


def read(source: Path) -> tuple[Publication, dict[int, PublishedFeature]]:
    publication = reader().read(source)
    return publication, {feature.index: feature for feature in publication.features}


def scores(folder: Path, rows: object, scorer: str = "detection") -> PublishedScore:
    """What is read of one score's file."""
    write_json(folder / "explanations" / "m_latent1.txt", "a label")
    write_json(folder / "scores" / scorer / "m_latent1.txt", rows)
    _, features = read(folder)
    (found,) = features[1].labels[0].scores
    return found


def test_explanations_and_scores_of_a_module(tmp_path: Path) -> None:
    publication, features = read(delphi_folder(tmp_path))
    assert (publication.name, publication.model) == ("org-sae-tiny-layers.1.mlp", "org/tiny-model")
    assert (publication.hook, publication.n_features) == ("layers.1.mlp", 301)
    assert publication.extra["module"] == "layers.1.mlp"
    assert list(features) == [7, 12, 300]
    (label,) = features[12].labels
    assert (label.text, label.labeler, label.model) == ("capital letters,\nat the start", "default", "judge-70b")
    detection, fuzz = label.scores
    assert (detection.scorer, fuzz.scorer) == ("detection", "fuzz")
    assert (detection.value, detection.n, detection.failed) == ((8 / 10 + 6 / 10) / 2, 20, 3)
    assert dict(detection.details) == {
        "true_positives": 8,
        "false_positives": 4,
        "true_negatives": 6,
        "false_negatives": 2,
    }
    assert (fuzz.value, fuzz.n, fuzz.failed) == (1.0, 2, 0)
    # Every scorer was shown the same example, so it is there once.
    assert [(example.tokens, example.activations) for example in features[12].examples] == [((" a", " b"), (0.0, 2.5))]


@pytest.mark.parametrize("text", ["Explanation could not be parsed.", "No explanation found"])
def test_what_delphi_writes_in_a_labels_place_is_no_label(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / "explanations" / "m_latent1.txt", text)
    _, features = read(tmp_path)
    (label,) = features[1].labels
    assert (label.text, dict(label.extra)) == ("", {"failed": text})


@pytest.mark.parametrize("seed", range(5))
def test_balanced_accuracy_is_sklearns(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    answers: list[tuple[bool, float]] = [(True, True), (False, False)]
    answers += [(draw.random() < 0.4, draw.choice([True, False, 0, 1, 0.2, 0.9])) for _ in range(60)]
    failed = [(draw.random() < 0.5, None) for _ in range(seed)]
    both: list[tuple[bool, object]] = [*answers, *failed]
    draw.shuffle(both)
    found = scores(tmp_path, classified(both))
    expected = balanced_accuracy_score([active for active, _ in answers], [float(said) >= 0.5 for _, said in answers])
    assert found.value == pytest.approx(expected)
    assert (found.n, found.failed) == (62, seed)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([(True, None), (False, False)], "of activating examples none was answered"),
        ([(True, True), (False, None)], "of other examples none was answered"),
        ([(True, None), (False, None)], "of activating examples none was answered"),
    ],
)
def test_without_answers_of_both_kinds_there_is_no_figure(
    tmp_path: Path, answers: list[tuple[bool, object]], reason: str
) -> None:
    found = scores(tmp_path, classified(answers))
    assert math.isnan(found.value)
    assert found.details["reason"] == reason
    assert (found.failed or 0) + (found.n or 0) == 2


def test_simulation_is_the_correlation_over_everything(tmp_path: Path) -> None:
    rows = [{"quantile": 1, "correlation": 0.2}, {"quantile": -1, "correlation": 0.625, "sequence_count": 30}]
    found = scores(tmp_path, rows, "simulation")
    assert (found.scorer, found.value, found.n) == ("simulation", 0.625, 30)
    missing = scores(tmp_path, [{"quantile": -1, "correlation": None}], "simulation")
    assert math.isnan(missing.value)


def test_intruders_are_counted(tmp_path: Path) -> None:
    rows = [{"correct": said, "prediction": 0} for said in (True, True, False, None)]
    found = scores(tmp_path, rows, "intruder")
    assert (found.value, found.n, found.failed) == (2 / 3, 3, 1)


def test_a_form_that_is_not_known_is_said_and_left(tmp_path: Path) -> None:
    write_json(tmp_path / "explanations" / "m_latent1.txt", "a label")
    write_json(tmp_path / "scores" / "surprisal" / "m_latent1.txt", [{"text": "a", "explanation": [1.0]}])
    write_json(tmp_path / "scores" / "fuzz" / "m_latent2.txt", classified([(True, True), (False, False)]))
    publication, features = read(tmp_path)
    assert features[1].labels[0].scores == ()
    assert publication.warnings == (
        "scores/surprisal: 1 files are in a form that is not known, and are left",
        "1 features have scores and no explanation; their scores are left",
    )


def test_of_several_modules_one_is_named_at_the_paths_end(tmp_path: Path) -> None:
    for module, text in (("layers.1.mlp", "one"), ("layers.2", "two")):
        write_json(tmp_path / "explanations" / f"{module}_latent4.txt", text)
    with pytest.raises(BadInput, match="holds 2 modules") as told:
        read(tmp_path)
    assert told.value.hint == f"name one: {tmp_path / 'layers.1.mlp'}"
    publication, features = read(tmp_path / "layers.2")
    assert (publication.hook, features[4].labels[0].text) == ("layers.2.resid_post", "two")
    assert reader().recognises(tmp_path / "layers.2")
    assert not reader().recognises(tmp_path / "layers.3")
    with pytest.raises(NotFound, match=r"no module 'layers\.3'"):
        read(tmp_path / "layers.3")


def test_a_folder_of_explanations_alone(tmp_path: Path) -> None:
    folder = delphi_folder(tmp_path, config=False) / "explanations"
    publication, features = read(folder)
    assert (publication.model, list(features)) == ("", [7, 12, 300])


def test_one_can_read_the_older_names(tmp_path: Path) -> None:
    write_json(tmp_path / ".model.layers.3_feature9.json", "older")
    publication, features = read(tmp_path)
    assert (publication.hook, features[9].labels[0].text) == ("layers.3.resid_post", "older")


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("explanations/m_latent1.txt", "5", "not a JSON string, as an explanation is"),
        ("explanations/m_latent1.txt", '"cut sho', "not JSON"),
        ("explanations/m_latent1.txt", '"' + "x" * 2**20 + '"', "longer than 1 MB"),
        ("explanations/m_latent99999999999.txt", '"x"', "no dictionary has so many features"),
        ("scores/fuzz/m_latent1.txt", '"x"', "not a JSON list of objects"),
        ("scores/fuzz/m_latent1.txt", '[{"activating": 1, "prediction": true}]', "activating is 1, not true or false"),
        ("scores/fuzz/m_latent1.txt", '[{"activating": true, "prediction": "1"}]', "prediction is '1'"),
        ("scores/fuzz/m_latent1.txt", '[{"quantile": -1, "correlation": "x"}]', "correlation is 'x', not a number"),
        ("run_config.json", "[]", "not a JSON object"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, path: str, content: str, reason: str) -> None:
    write_json(tmp_path / "explanations" / "m_latent0.txt", "a label")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(content)
    with pytest.raises(BadInput, match=rf"{Path(path).name}.*{reason}"):
        read(tmp_path)


def test_an_example_must_have_an_activation_for_each_token(tmp_path: Path) -> None:
    row: dict[str, Any] = classified([(True, True)])[0] | {"activations": [1.0]}
    with pytest.raises(BadInput, match="2 str_tokens and 1 activations"):
        scores(tmp_path, [row])


def test_a_file_as_orjson_writes_it(tmp_path: Path) -> None:
    """Delphi's files are UTF-8 without escapes."""
    (tmp_path / "m_latent1.txt").write_bytes(json.dumps("Wörter auf ß", ensure_ascii=False).encode())
    assert read(tmp_path)[1][1].labels[0].text == "Wörter auf ß"
