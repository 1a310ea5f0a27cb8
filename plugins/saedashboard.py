"""SAEDashboard's JSON, read and written: batch-{n}.json with model_id, layer, sae_set, sae_id_suffix and features.

Source: sae_dashboard/neuronpedia/{neuronpedia_runner,neuronpedia_converter,neuronpedia_dashboard}.py of
github.com/jbloomAus/SAEDashboard. It writes figures and examples and no labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featuredb.errors import BadInput, NotFound
from featuredb.hooknames import canonical_hook
from featuredb.labels import published_files as files
from featuredb.labels.feature_spool import FeatureSpool, Spooled
from featuredb.labels.json_stream import JsonStream, first_text
from featuredb.labels.publication import ExportRequest, Publication, PublishedExample, PublishedFeature
from featuredb.labels.published_files import Row, Where

PUBLISHER = "saedashboard"
BATCH = 128
_FILE = re.compile(r"(?:batch|feature)s?[-_].*\.json(?:\.gz)?")
_HOOK = re.compile(r"_(blocks\.\d+\.[\w.]+?|hook_embed)_(\d+)(?:_|$)")
_HEAD = ("model_id", "layer", "sae_set", "sae_id_suffix")
_OWN = {"feature_index", "frac_nonzero", "pos_str", "pos_values", "neg_str", "neg_values", "activations", "vector"}
_OWN |= {"n_prompts_total", "n_tokens_in_prompt", "dataset"}
_EXAMPLE_EXTRA = ("bin_min", "bin_max", "bin_contains", "qualifying_token_index", "dfa_maxValue", "dfa_targetIndex")
_TABLES = tuple(
    f"{table}_{column}"
    for table, columns in (
        ("neuron_alignment", ("indices", "values", "l1")),
        ("correlated_neurons", ("indices", "l1", "pearson")),
        ("correlated_features", ("indices", "l1", "pearson")),
    )
    for column in columns
)
_HISTOGRAMS = (
    "freq_hist_data_bar_values",
    "freq_hist_data_bar_heights",
    "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values",
)


class SaeDashboard:
    """A folder of SAEDashboard's batch files, or one of them."""

    name = "saedashboard.v1"

    def recognises(self, source: Path) -> bool:
        try:
            found = _files(source)[:1]
            return bool(found) and '"feature_index"' in first_text(found[0])
        except (BadInput, NotFound, OSError):
            return False

    def read(self, source: Path) -> Publication:
        paths = _files(source)
        reading = _Reading()
        for path in paths:
            reading.take(path)
        if not reading.spool.n_features:
            raise BadInput(f"{source} holds no feature")
        said = reading.head
        model = str(said.get("model_id") or "")
        suffix = f"__{said['sae_id_suffix']}" if said.get("sae_id_suffix") else ""
        layer = said.get("layer")
        told = _HOOK.search(paths[0].resolve().parent.name)
        extra = {
            "source": paths[0].resolve().parent.name,
            "layer": layer if isinstance(layer, int) else None,
            **reading.told,
            PUBLISHER: {name: said.get(name) for name in _HEAD},
        }
        n_features = min(int(told[2]), files.MAX_INDEX) if told else 0
        return Publication(
            name=files.dictionary_name(model or source.stem, layer, f"{said.get('sae_set') or ''}{suffix}"),
            publisher=PUBLISHER,
            model=model,
            hook=canonical_hook(told[1]) if told else None,
            n_features=max(reading.spool.n_features, n_features),
            features=_Features(reading.spool, reading.paths),
            extra={name: value for name, value in extra.items() if value is not None},
            warnings=tuple(_gaps(paths)),
        )

    def write(self, request: ExportRequest, folder: Path) -> int:
        from featuredb.labels.gather import Gathered

        with Gathered(request, PUBLISHER) as gathered:
            said = gathered.published.get(PUBLISHER)
            own = {"model_id": gathered.model, "layer": gathered.layer, "sae_set": gathered.name, "sae_id_suffix": None}
            head = {**own, **(said if isinstance(said, dict) else {})}
            for number, start in enumerate(range(0, gathered.n_features, BATCH)):
                chosen = range(start, min(start + BATCH, gathered.n_features))
                rows = [_row(feature, gathered.published) for feature in gathered.take(chosen, labels=False)]
                text = json.dumps({**head, "features": rows}, ensure_ascii=False, allow_nan=False)
                (folder / f"batch-{number}.json").write_text(text, encoding="utf-8")
            return gathered.n_features


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if _FILE.fullmatch(source.name) else []
    if not source.is_dir():
        raise NotFound(f"no file or folder at {source}")
    found = [path for path in source.iterdir() if _FILE.fullmatch(path.name) and path.is_file()]
    if not found:
        raise BadInput(f"{source} holds no batch-0.json", hint="name the folder that SAEDashboard wrote")
    return sorted(found, key=lambda path: ([int(part) for part in re.findall(r"\d+", path.name)], path.name))


def _gaps(paths: Sequence[Path]) -> Iterator[str]:
    numbers = {int(match[1]) for path in paths if (match := re.fullmatch(r"batch-(\d{1,9})\.json(?:\.gz)?", path.name))}
    missing = sorted(set(range(max(numbers, default=-1) + 1)) - numbers) if len(paths) > 1 else []
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield f"of batches 0 to {max(numbers)}, {files.ranges(missing)} {verb} missing"


@dataclass
class _Reading:
    spool: FeatureSpool = field(default_factory=FeatureSpool)
    paths: list[Path] = field(default_factory=list)
    head: Row = field(default_factory=dict)
    told: Row = field(default_factory=dict)
    """What the first feature says of the text behind its figures."""

    def take(self, path: Path) -> None:
        self.paths.append(path)
        head: Row = {}
        for number, row in _batch(path):
            if number:
                self._feature(row, Where(path, number))
            else:
                head = {name: row[name] for name in _HEAD if name in row}
        if self.head and head and head != self.head:
            raise BadInput(f"{path}: of {_said(head)}, and the batches before it of {_said(self.head)}")
        self.head = self.head or head
        files.packed(self.head, Where(path))

    def _feature(self, row: Row, where: Where) -> None:
        index = files.feature_index(row, "feature_index", where)
        prompts, each = row.get("n_prompts_total"), row.get("n_tokens_in_prompt")
        if not self.told and isinstance(prompts, int) and isinstance(each, int) and prompts > 0 and each > 0:
            self.told = {"n_tokens": prompts * each, "n_prompts_total": prompts, "n_tokens_in_prompt": each}
            self.told |= {"dataset": row["dataset"]} if isinstance(row.get("dataset"), str) else {}
        self.spool.add(index, 0, len(self.paths) - 1, where.row or 0, files.packed(_body(row, where), where))


def _said(head: Row) -> str:
    return "/".join(str(head.get(name)) for name in _HEAD[:3])


def _body(row: Row, where: Where) -> Row:
    examples = row.get("activations") or []
    if not isinstance(examples, list) or not all(isinstance(one, dict) for one in examples):
        raise where.bad("activations is not a list of objects")
    return {
        "density": files.number(row, "frac_nonzero", where),
        "promoted": files.weights(row, "pos_str", "pos_values", where),
        "suppressed": files.weights(row, "neg_str", "neg_values", where),
        "vector": files.numbers(row, "vector", where) or None,
        "extra": {name: value for name, value in row.items() if name not in _OWN and value not in (None, [], "")},
        "examples": [_example(one, where) for one in examples],
    }


def _example(row: Row, where: Where) -> Row:
    tokens, values = files.activated(row, "tokens", "values", where)
    extra = {name: row[name] for name in _EXAMPLE_EXTRA if row.get(name) is not None}
    return {"tokens": tokens, "values": values, "extra": extra}


class _Features:
    def __init__(self, spool: FeatureSpool, paths: Sequence[Path]) -> None:
        self._spool = spool
        self._paths = paths

    def __iter__(self) -> Iterator[PublishedFeature]:
        for index, rows in self._spool:
            if len({row.body for row in rows}) > 1:
                one, other = (Where(self._paths[row.file], row.row) for row in _two(rows))
                raise other.bad(f"feature {index} again, and otherwise than in {one}")
            yield _made(index, json.loads(rows[0].body))


def _two(rows: Sequence[Spooled]) -> tuple[Spooled, Spooled]:
    return rows[0], next(row for row in rows if row.body != rows[0].body)


def _made(index: int, body: Row) -> PublishedFeature:
    examples = [
        PublishedExample(tuple(one["tokens"]), tuple(one["values"]), None, one["extra"]) for one in body["examples"]
    ]
    examples.sort(key=lambda one: (-max(one.activations, default=0.0), one.tokens, one.activations))
    # The strongest contexts are a group of their own, under bin_min -1; without them the largest is not known.
    strongest = [max(one.activations, default=0.0) for one in examples if one.extra.get("bin_min") == -1]
    return PublishedFeature(
        index=index,
        density=body["density"],
        max_activation=max(strongest, default=None),
        promoted=tuple((text, value) for text, value in body["promoted"]),
        suppressed=tuple((text, value) for text, value in body["suppressed"]),
        examples=tuple(examples),
        vector=None if body["vector"] is None else tuple(body["vector"]),
        extra=body["extra"],
    )


def _batch(path: Path) -> Iterator[tuple[int, Row]]:
    """The features of a batch, numbered from 1; under 0, last, what it says beside them.

    A file that is one feature, or a list of them, is a batch that says nothing beside.
    """
    stream = JsonStream(path)
    others: Row = {}
    number, listed = 0, stream.peek() == "["
    for key, value in (("features", item) for item in stream.items()) if listed else stream.members("features"):
        if key != "features":
            others[key] = value
        elif value is None and not listed:
            listed = True
        elif not isinstance(value, dict):
            raise Where(path, number + 1).bad("not a JSON object, as a feature is")
        else:
            number += 1
            yield number, value
    stream.end()
    if not listed:
        if "feature_index" not in others:
            raise Where(path).bad("no features, and no feature_index")
        yield 1, others
        others = {}
    yield 0, others


def _row(feature: PublishedFeature, told: Mapping[str, Any]) -> Row:
    """A feature as NeuronpediaDashboardFeature.to_dict gives it."""
    extra = feature.extra
    return {
        "feature_index": feature.index,
        **{name: extra.get(name, []) for name in _TABLES},
        "neg_str": [text for text, _ in feature.suppressed],
        "neg_values": [value for _, value in feature.suppressed],
        "pos_str": [text for text, _ in feature.promoted],
        "pos_values": [value for _, value in feature.promoted],
        "frac_nonzero": feature.density,
        **{name: extra.get(name, []) for name in _HISTOGRAMS},
        "n_prompts_total": told.get("n_prompts_total", 0),
        "n_tokens_in_prompt": told.get("n_tokens_in_prompt", 0),
        "dataset": told.get("dataset", ""),
        "decoder_weights_dist": extra.get("decoder_weights_dist", []),
        "activations": [_example_row(example, feature) for example in feature.examples],
        "vector": list(feature.vector or ()),
    }


def _example_row(example: PublishedExample, feature: PublishedFeature) -> Row:
    extra = example.extra
    values = list(example.activations)
    # As SAEDashboard marks its group of strongest contexts; a uniform sample is no interval of its.
    top = {"bin_min": -1.0, "bin_max": feature.max_activation, "bin_contains": -1.0}
    bins = {name: extra[name] for name in top if name in extra} or ({} if "kind" in extra else top)
    return {
        **{name: bins.get(name, 0.0) for name in top},
        "tokens": list(example.tokens),
        "values": values,
        "qualifying_token_index": extra.get("qualifying_token_index", values.index(max(values))),
        **{name: extra[name] for name in ("dfa_maxValue", "dfa_targetIndex") if name in extra},
    }
