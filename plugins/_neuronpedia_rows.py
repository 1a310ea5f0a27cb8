"""Writing a source's folder as Neuronpedia exports it: the same keys, the same order, the same batches."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featuredb.hooknames import is_canonical
from featuredb.labels.gather import Gathered
from featuredb.labels.publication import ExportRequest, PublishedExample, PublishedFeature, PublishedLabel
from featuredb.labels.published_files import dictionary_name

PUBLISHER = "neuronpedia"
BATCH = 1024

_FEATURE: dict[str, Any] = {
    "modelId": None,
    "layer": None,
    "index": None,
    "maxActApprox": None,
    "creatorId": None,
    "frac_nonzero": None,
    "freq_hist_data_bar_heights": [],
    "freq_hist_data_bar_values": [],
    "logits_hist_data_bar_heights": [],
    "logits_hist_data_bar_values": [],
    "neuron_alignment_indices": [],
    "neuron_alignment_l1": [],
    "neuron_alignment_values": [],
    "correlated_neurons_indices": [],
    "correlated_neurons_l1": [],
    "correlated_neurons_pearson": [],
    "decoder_weights_dist": [],
    "neg_str": [],
    "neg_values": [],
    "pos_str": [],
    "pos_values": [],
    "sourceSetName": None,
    "topkCosSimIndices": [],
    "topkCosSimValues": [],
    "vector": [],
    "vectorLabel": None,
    "hookName": None,
    "vectorDefaultSteerStrength": None,
    "hasVector": False,
}
"""Columns of a feature's row in their order, and what stands where nothing is known."""

_SITES = {
    "resid_pre": "hook_resid_pre",
    "resid_post": "hook_resid_post",
    "mlp_in": "mlp.hook_in",
    "mlp_out": "hook_mlp_out",
    "attn_out": "hook_attn_out",
}


def write_source(request: ExportRequest, folder: Path) -> int:
    """Fills v1/{model}/{source} below a folder; the number of features written, or of labelled ones."""
    with Gathered(request, PUBLISHER) as gathered:
        writer = _Writer(gathered, folder)
        writer.describe()
        n_labelled = writer.explanations()
        if request.labels_only:
            return n_labelled
        writer.features()
        writer.activations()
        return gathered.n_features


class _Writer:
    def __init__(self, gathered: Gathered, folder: Path) -> None:
        self._gathered = gathered
        said = gathered.published.get(PUBLISHER)
        self._meta: Mapping[str, Any] = said if isinstance(said, dict) else {}
        model, _, layer = str(gathered.published.get("source", "")).partition("/")
        own = gathered.published.get("publisher") == PUBLISHER and layer
        self._model = model if own else gathered.model
        # Neuronpedia reads the layer's number from the name before the dash.
        number = "" if gathered.layer is None else f"{gathered.layer}-"
        self._layer = layer if own else f"{number}{gathered.name}"
        self._folder = folder / "v1" / dictionary_name(self._model) / dictionary_name(self._layer)
        # As text: "0", "1", "10", "100", ...
        self._by_text = sorted(range(gathered.n_features), key=str)

    def describe(self) -> None:
        """model.jsonl and its like: the publisher's own where they were kept, else what must be said."""
        set_name = self._layer.partition("-")[2] or self._layer
        rows: dict[str, Mapping[str, Any]] = {
            "model": {"id": self._model, "displayName": self._model, "displayNameShort": self._model},
            "source": {"id": self._layer, "modelId": self._model, "setName": set_name, "hasDashboards": True},
            "sourceset": {"modelId": self._model, "name": set_name, "hasDashboards": True},
        }
        self._folder.mkdir(parents=True)
        for name, row in (self._meta or rows).items():
            (self._folder / f"{name}.jsonl").write_text(_line(row), encoding="utf-8")

    def features(self) -> None:
        rows = (self._feature(one) for one in self._gathered.take(self._by_text, examples=False, labels=False))
        _write(self._folder / "features", rows)

    def activations(self) -> None:
        """By ranges of the index as a number, unlike the other two."""
        for number, start in enumerate(range(0, self._gathered.n_features, BATCH)):
            chosen = range(start, min(start + BATCH, self._gathered.n_features))
            features = self._gathered.take(chosen, labels=False)
            rows = (row for feature in features for row in self._examples(feature))
            _write_batch(self._folder / "activations", number, rows)

    def explanations(self) -> int:
        """Labels, and their scores beside; the number of features that have any."""
        counted: set[int] = set()

        def labelled() -> Iterator[tuple[str, PublishedLabel, int]]:
            for start in range(0, len(self._by_text), BATCH):
                chosen = self._by_text[start : start + BATCH]
                found = self._gathered.labels(chosen)
                counted.update(found)
                for index in chosen:
                    yield from ((self._id(index, label), label, index) for label in found.get(index, ()))

        _write(self._folder / "explanations", (self._explanation(*one) for one in labelled()))
        scores = (row for one in labelled() for row in self._scores(*one))
        _write(self._folder / "scores", scores)
        return len(counted)

    def _id(self, index: int, label: PublishedLabel) -> str:
        return str(label.extra.get("id") or _id(self._layer, index, label.labeler, label.text, label.model))

    def _named(self, index: int) -> dict[str, Any]:
        return {"modelId": self._model, "layer": self._layer, "index": str(index)}

    def _feature(self, feature: PublishedFeature) -> dict[str, Any]:
        own = {
            **self._named(feature.index),
            "maxActApprox": feature.max_activation,
            "frac_nonzero": feature.density,
            "neg_str": [text for text, _ in feature.suppressed],
            "neg_values": [value for _, value in feature.suppressed],
            "pos_str": [text for text, _ in feature.promoted],
            "pos_values": [value for _, value in feature.promoted],
            "vector": list(feature.vector or ()),
            "hasVector": bool(feature.vector),
        }
        hook = feature.extra.get("hookName") or _their_hook(self._gathered.hook)
        return {**_FEATURE, "hookName": hook or None, **feature.extra, **own}

    def _examples(self, feature: PublishedFeature) -> Iterator[dict[str, Any]]:
        written = set()
        for number, example in enumerate(feature.examples):
            # A sampled context may be one of the strongest too.
            if (key := (example.tokens, example.activations)) not in written:
                written.add(key)
                yield self._example(feature.index, number, example)

    def _example(self, index: int, number: int, example: PublishedExample) -> dict[str, Any]:
        values = list(example.activations)
        largest = max(values)
        extra = example.extra
        return {
            "id": _id(self._layer, index, number, "".join(example.tokens)),
            **self._named(index),
            "creatorId": None,
            "dataSource": example.source,
            "tokens": list(example.tokens),
            "maxValue": largest,
            "minValue": min(values),
            "values": values,
            "maxValueTokenIndex": values.index(largest),
            "dfaValues": [],
            "dfaMaxValue": extra.get("dfaMaxValue"),
            "dfaTargetIndex": extra.get("dfaTargetIndex"),
            "binContains": extra.get("binContains"),
            "binMin": extra.get("binMin"),
            "binMax": extra.get("binMax"),
            **{name: extra[name] for name in ("qualifyingTokenIndex",) if name in extra},
        }

    def _explanation(self, key: str, label: PublishedLabel, index: int) -> dict[str, Any]:
        extra = label.extra
        umap = ("umap_x", "umap_y", "umap_cluster", "umap_log_feature_sparsity")
        return {
            "id": key,
            **self._named(index),
            "authorId": extra.get("authorId") or label.author,
            "description": label.text,
            "embedding": None,
            "typeName": label.labeler,
            "explanationModelName": label.model,
            **{name: extra.get(name) for name in umap},
            "notes": extra.get("note"),
            "createdAt": extra.get("created_at"),
        }

    def _scores(self, key: str, label: PublishedLabel, index: int) -> Iterator[dict[str, Any]]:
        for number, score in enumerate(label.scores):
            named = {"n": score.n, "failed": score.failed, "baseline": score.baseline}
            details = {**score.details, **{name: value for name, value in named.items() if value is not None}}
            yield {
                "id": _id(key, number, score.scorer, score.judge),
                **self._named(index),
                "explanationId": key,
                "value": score.value if math.isfinite(score.value) else None,
                "explanationScoreTypeName": score.scorer,
                "explanationScoreModelName": score.judge,
                "jsonDetails": json.dumps(details, ensure_ascii=False, sort_keys=True),
            }


def _their_hook(hook: str) -> str:
    """A hook as TransformerLens names it; other names as they are."""
    if not is_canonical(hook):
        return hook
    if hook == "embed":
        return "hook_embed"
    _, layer, site = hook.split(".")
    return f"blocks.{layer}.{_SITES[site]}"


def _id(*parts: object) -> str:
    """25 characters that are the same for the same row, as Neuronpedia's ids are long."""
    return "c" + hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows in batches of BATCH, as they come; without any, no folder."""
    for number, batch in enumerate(_batches(rows)):
        _write_batch(folder, number, batch)


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    items = iter(rows)
    while batch := list(itertools.islice(items, BATCH)):
        yield batch


def _write_batch(folder: Path, number: int, rows: Iterable[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Without a name and a time in it, the same rows are the same bytes.
    with (
        (folder / f"batch-{number}.jsonl.gz").open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=raw, mtime=0) as file,
    ):
        for row in rows:
            file.write(_line(row).encode())


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
