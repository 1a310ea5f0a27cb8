"""Small folders as publishers write them, made by hand after their own sources, and our plugins by entry point."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from featuredb.database import FeatureDB
from featuredb.labels.publication import Publication, PublishedExample, PublishedFeature, PublishedLabel, PublishedScore
from featuredb.labels.publish import import_publication
from featuredb.plugins import Registry
from featuredb.store.catalog import Base, ScoreRow
from featuredb.store.store import Store
from tests.small_store import build

Row = dict[str, Any]

READERS = {
    "neuronpedia": "neuronpedia:Neuronpedia",
    "delphi": "delphi:Delphi",
    "saedashboard": "saedashboard:SaeDashboard",
    "label-table": "label_table:LabelTable",
}
EXPORTERS = {
    "neuronpedia": "neuronpedia:Neuronpedia",
    "delphi": "delphi:Delphi",
    "saedashboard": "saedashboard:SaeDashboard",
    "csv": "label_table:LabelCsv",
    "jsonl": "label_table:LabelJsonLines",
    "parquet": "label_table:LabelParquet",
    "circuit-tracer": "circuit_tracer:CircuitTracer",
}
MODEL, SOURCE = "tiny-model", "1-res-tiny"

WORDS = PublishedLabel(
    "capital letters",
    "auto",
    model="a-model",
    scores=(PublishedScore("detection", 0.75, 40, 2, None, "j", {"low": 0.6, "high": 0.9, "f1": 0.7}),),
    extra={"id": "e1", "created_at": "2024-05-06T07:08:09+02:00"},
)
RICH = PublishedFeature(
    index=2,
    density=0.0125,
    max_activation=8.5,
    promoted=((" yes", 1.25),),
    suppressed=((" no", -0.5), (" yes", -0.25)),
    examples=(
        PublishedExample((" a", " cat", "."), (0.0, 4.0, 1.0), "web", {"binMin": -1}),
        PublishedExample((" the", " cat"), (0.5, 8.5), "web"),
        PublishedExample((" a", " dog"), (0.0, 0.0)),
    ),
    labels=(WORDS,),
    extra={"hist": [1, 2]},
)
"""A feature of which much is said: two examples, and a text on which it is silent."""


def state(store: Store) -> dict[str, Any]:
    """Everything a store holds: how many rows in each table, and every file but the catalog's own."""
    with store.reading() as session:
        tables = Base.metadata.tables.items()
        counts = {name: session.scalar(select(func.count()).select_from(table)) for name, table in tables}
    files = {path.relative_to(store.path).as_posix() for path in store.path.rglob("*") if path.is_file()}
    return counts | {"files": sorted(name for name in files if not name.startswith("catalog"))}


def scored_db(path: Path) -> FeatureDB:
    """The small store, its dictionary alpha with two labels, one of them scored three ways, and a failed one."""
    small = FeatureDB(build(path))
    first = small.add_label("alpha/7", "the word Cat", author="ada", note="seen")
    small.add_label("alpha/3", 'has, a "comma"')
    failed = PublishedLabel("", "auto", extra={"failed": "no answer"})
    import_publication(small.store, publication(PublishedFeature(5, labels=(failed,))), dictionary="alpha")
    rank: dict[str, Any] = {"low": 0.4, "high": 0.6, "baseline": 0.3}
    counts = {"true_positives": 4, "false_positives": 1, "true_negatives": 3, "false_negatives": 0}
    with small.store.session() as session:
        session.add(ScoreRow(label_id=first.id, scorer="detection.v1", value=0.875, n=8, failed=2, details=counts))
        session.add(ScoreRow(label_id=first.id, scorer="rank.v1", value=0.5, details={}, **rank))
        session.add(ScoreRow(label_id=first.id, scorer="fuzz.v1", value=None, reason="no answers", details={}))
    return small


@cache
def plugins() -> Registry:
    """Our readers and exporters, found as any plugin is."""
    kinds = {"readers": READERS, "exporters": EXPORTERS}
    return Registry(
        EntryPoint(name, f"featuredb_plugins.{value}", f"featuredb.{kind}")
        for kind, entries in kinds.items()
        for name, value in entries.items()
    )


def feature_row(index: int | str, **more: Any) -> Row:
    """A row of features/, with the columns that every export has."""
    row: Row = {
        "modelId": MODEL,
        "layer": SOURCE,
        "index": index,
        "maxActApprox": 9.5,
        "creatorId": "clkht01d40000jv08hvalcvly",
        "frac_nonzero": 0.0125,
        "freq_hist_data_bar_heights": [3, 2, 1],
        "freq_hist_data_bar_values": [0.5, 1.5, 2.5],
        "logits_hist_data_bar_heights": [],
        "neg_str": [" no", "ſ"],
        "neg_values": [-0.75, -0.5],
        "pos_str": [" yes", " Yes"],
        "pos_values": [1.25, 1.0],
        "sourceSetName": "res-tiny",
        "topkCosSimIndices": [],
        "vector": [],
        "vectorLabel": None,
        "hookName": "blocks.1.hook_resid_pre",
        "vectorDefaultSteerStrength": None,
        "hasVector": False,
    }
    return row | more


def activation_row(index: int | str, tokens: Sequence[str], values: Sequence[float], **more: Any) -> Row:
    """A row of activations/."""
    row: Row = {
        "id": f"a-{index}-{''.join(tokens)}",
        "modelId": MODEL,
        "layer": SOURCE,
        "index": index,
        "creatorId": "clkht01d40000jv08hvalcvly",
        "dataSource": None,
        "tokens": list(tokens),
        "maxValue": max(values, default=0),
        "minValue": min(values, default=0),
        "values": list(values),
        "maxValueTokenIndex": 0,
        "dfaValues": [],
        "dfaMaxValue": None,
        "dfaTargetIndex": None,
        "binContains": -1,
        "binMin": -1,
        "binMax": 99,
    }
    return row | more


def explanation_row(index: int | str, text: str, **more: Any) -> Row:
    """A row of explanations/, its embedding as pgvector writes one."""
    row: Row = {
        "id": f"e-{index}-{text}",
        "modelId": MODEL,
        "layer": SOURCE,
        "index": index,
        "authorId": "clkht01d40000jv08hvalcvly",
        "description": text,
        "embedding": "[0.1,-0.25,3e-05]",
        "typeName": "oai_token-act-pair",
        "explanationModelName": "gpt-4o-mini",
        "umap_x": 0.0,
        "umap_y": 0.0,
        "umap_cluster": 0,
        "umap_log_feature_sparsity": 0.0,
    }
    return row | more


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """JSON lines, gzipped where the path says so; escaped as json.dumps does it, NULs and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def neuronpedia_source(folder: Path, **batches: Mapping[int, Sequence[Row]]) -> Path:
    """v1/{model}/{source} with the batches given, `features={0: rows}`, and the rows that describe it."""
    source = folder / "v1" / MODEL / SOURCE
    for name, numbered in batches.items():
        for number, rows in numbered.items():
            write_rows(source / name / f"batch-{number}.jsonl.gz", rows)
    source.mkdir(parents=True, exist_ok=True)
    write_rows(source / "model.jsonl", [{"id": MODEL, "layers": 2, "instruct": False}])
    told = {"id": SOURCE, "modelId": MODEL, "setName": "res-tiny", "num_prompts": 100, "num_tokens_in_prompt": 8}
    write_rows(source / "source.jsonl", [told])
    return source


def small_source(folder: Path) -> Path:
    """Twelve features in text order, activations by range, three labels; index 3 never fires."""
    order = sorted(range(12), key=str)
    rows = {index: feature_row(str(index), maxActApprox=index + 0.5, frac_nonzero=index / 1000) for index in order}
    rows[3] |= {"maxActApprox": 0, "frac_nonzero": 0}
    activations = [
        activation_row(str(index), [" the", f" w{index}", "."], [0, index + 0.5, 0.25]) for index in order if index != 3
    ]
    activations.append(activation_row("3", [" the", " w3"], [0, 0]))
    labels = [explanation_row(str(index), f"the word w{index}") for index in (0, 10, 2)]
    return neuronpedia_source(
        folder,
        features={0: [rows[index] for index in order[:6]], 1: [rows[index] for index in order[6:]]},
        activations={0: activations},
        explanations={0: labels},
    )


def classified(answers: Iterable[tuple[bool, object]], tokens: Sequence[str] = (" a", " b")) -> list[Row]:
    """A score's file as Delphi's detection and fuzzing write it: (activating, prediction) for each example."""
    return [
        {
            "str_tokens": list(tokens),
            "activations": [0.0, 2.5] if active else [0.0, 0.0],
            "distance": 1,
            "activating": active,
            "prediction": said,
            "probability": None,
            "correct": None if said is None else bool(said) == active,
        }
        for active, said in answers
    ]


def delphi_folder(folder: Path, module: str = "layers.1.mlp", config: bool = True) -> Path:
    """Two explained features, 12 scored twice, and one that Delphi could not parse."""
    texts = {12: "capital letters,\nat the start", 7: "Explanation could not be parsed.", 300: "digits"}
    for index, text in texts.items():
        write_json(folder / "explanations" / f"{module}_latent{index}.txt", text)
    answers = [(True, True)] * 8 + [(True, False)] * 2 + [(False, False)] * 6 + [(False, True)] * 4 + [(True, None)] * 3
    write_json(folder / "scores" / "detection" / f"{module}_latent12.txt", classified(answers))
    write_json(folder / "scores" / "fuzz" / f"{module}_latent12.txt", classified([(True, 1), (False, 0)]))
    if config:
        told = {"model": "org/tiny-model", "sparse_model": "org/sae-tiny", "explainer_model": "judge-70b"}
        write_json(folder / "run_config.json", told | {"explainer": "default", "hookpoints": [module]})
    return folder


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def dashboard_feature(index: int, **more: Any) -> Row:
    """A feature as NeuronpediaDashboardFeature.to_dict gives it."""
    row: Row = {
        "feature_index": index,
        "neuron_alignment_indices": [1, 2],
        "neuron_alignment_values": [0.5, 0.25],
        "neuron_alignment_l1": [0.1, 0.05],
        "neg_str": [" no"],
        "neg_values": [-1.5],
        "pos_str": [" yes"],
        "pos_values": [2.5],
        "frac_nonzero": 0.00123,
        "freq_hist_data_bar_values": [0.5],
        "freq_hist_data_bar_heights": [3],
        "n_prompts_total": 200,
        "n_tokens_in_prompt": 16,
        "dataset": "org/texts",
        "decoder_weights_dist": [],
        "activations": [
            dashboard_example([" a", f" w{index}", "."], [0, index + 1.5, 0.25], bin_min=-1, bin_contains=-1),
            dashboard_example([" b", f" w{index}"], [0, 0.5], bin_min=0.25, bin_max=0.75, bin_contains=0.1),
        ],
        "vector": [],
    }
    return row | more


def dashboard_example(tokens: Sequence[str], values: Sequence[float], **more: Any) -> Row:
    row: Row = {"bin_min": 0, "bin_max": max(values), "bin_contains": 0, "tokens": list(tokens), "values": list(values)}
    return row | {"qualifying_token_index": 1} | more


def dashboard_folder(folder: Path, batches: Mapping[int, Sequence[Row]] | None = None) -> Path:
    """A runner's folder: batch files, and the run's settings beside."""
    target = folder / "tiny-model_res-tiny_blocks.1.hook_resid_post_64"
    rows = batches or {0: [dashboard_feature(4), dashboard_feature(0)], 1: [dashboard_feature(9)]}
    for number, features in rows.items():
        head = {"model_id": MODEL, "layer": 1, "sae_set": "res-tiny", "sae_id_suffix": None}
        write_json(target / f"batch-{number}.json", {**head, "features": list(features)})
    write_json(target / "run_settings.json", {"sae_set": "res-tiny"})
    write_json(target / "skipped_indexes.json", {"skipped_indexes": [1]})
    return target


def publication(*features: PublishedFeature, **more: Any) -> Publication:
    """A publication that lies in memory."""
    given: dict[str, Any] = {
        "name": "tiny-published",
        "publisher": "someone",
        "model": MODEL,
        "hook": "blocks.1.hook_resid_pre",
        "n_features": max((feature.index for feature in features), default=0) + 1,
        "features": features,
    }
    return Publication(**given | more)
