"""Feature files for circuit-tracer's graph viewer: features/{layer}.bin, and features/index.json.gz to find things by.

Source: circuit_tracer/frontend/feature_models.py for a feature's fields, and frontend/assets/util.js and
feature_examples/init-feature-examples.js for the files, of github.com/decoderesearch/circuit-tracer. The viewer numbers
a feature by the Cantor pairing of its layer and index, and asks for bytes offsets[index] to offsets[index + 1].
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featuredb.errors import BadInput
from featuredb.labels.publication import ExportRequest, PublishedExample, PublishedFeature

N_BINS = 50
"""Of a histogram between 0 and the largest activation."""


class CircuitTracer:
    """One layer's feature files; a folder of several layers is made by putting their files side by side."""

    name = "circuit-tracer.v1"

    def write(self, request: ExportRequest, folder: Path) -> int:
        from featuredb.labels.gather import Gathered

        with Gathered(request) as gathered:
            layer = gathered.layer
            if layer is None:
                raise BadInput(f"{gathered.name} reads at {gathered.hook or 'no known hook'}, which is in no layer")
            target = folder / "features"
            target.mkdir()
            offsets = [0]
            with (target / f"{layer}.bin").open("wb") as file:
                for feature in gathered.features(labels=False):
                    text = json.dumps(_feature(feature, gathered.name), ensure_ascii=False, allow_nan=False)
                    # gzip, as the published files are; the viewer takes zlib as well, other readers do not.
                    packed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
                    file.write(struct.pack("<I", len(packed)) + packed)
                    offsets.append(file.tell())
            index = json.dumps({str(layer): {"filename": f"{layer}.bin", "offsets": offsets}})
            (target / "index.json.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
            return gathered.n_features


def cantor_pair(layer: int, index: int) -> int:
    """The number by which a graph names a feature."""
    return (layer + index) * (layer + index + 1) // 2 + index


def _feature(feature: PublishedFeature, dictionary: str) -> dict[str, Any]:
    strongest = [one for one in feature.examples if one.extra.get("kind") is None]
    sample = [one for one in feature.examples if one.extra.get("kind") == "sample"]
    largest = feature.max_activation or 0.0
    quantiles, histogram = _spread(sample, largest)
    groups = [("Top activations", strongest), ("Uniform sample", sample)]
    # What is not known is left out: the viewer has something to say in its place.
    known: dict[str, Any] = {} if feature.density is None else {"activation_frequency": feature.density}
    known |= {} if feature.max_activation is None else {"act_min": 0.0, "act_max": largest}
    return {
        "transcoder_id": dictionary,
        "index": feature.index,
        "examples_quantiles": [
            {"quantile_name": name, "examples": [_example(one) for one in group]}
            for name, group in groups
            # The viewer looks into the first group without asking whether there is one.
            if group or name == groups[0][0]
        ],
        "top_logits": [text for text, _ in feature.promoted],
        "bottom_logits": [text for text, _ in feature.suppressed],
        "quantile_values": quantiles,
        "histogram": histogram,
        **known,
    }


def _example(example: PublishedExample) -> dict[str, Any]:
    values = list(example.activations)
    return {
        "tokens_acts_list": values,
        "train_token_ind": values.index(max(values)),
        "is_repeated_datapoint": False,
        "tokens": list(example.tokens),
    }


def _spread(sample: Sequence[PublishedExample], largest: float) -> tuple[list[float], list[float]]:
    """The percentiles 0 to 100, and a histogram, of a context's largest activation, from the uniform sample.

    Without a sample both are empty: the strongest contexts tell nothing of the others.
    """
    if not sample or largest <= 0:
        return [], []
    peaks = np.array([max(one.activations) for one in sample])
    counts, _ = np.histogram(peaks, bins=N_BINS, range=(0.0, max(largest, float(peaks.max()))))
    return np.percentile(peaks, np.arange(101)).tolist(), counts.astype(float).tolist()
