"""Delphi's results, read and written: explanations/{module}_latent{n}.txt and scores/{scorer}/{module}_latent{n}.txt.

Source: delphi/__main__.py, delphi/scorers and delphi/log/result_analysis.py of github.com/EleutherAI/delphi. An
explanation is a JSON string; a score is a JSON list with a row for each example that the judge was shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from featuredb.errors import BadInput, NotFound, nearest
from featuredb.hooknames import canonical_hook, layer_of
from featuredb.labels import published_files as files
from featuredb.labels.feature_spool import FeatureSpool, Spooled
from featuredb.labels.publication import (
    ExportRequest,
    Publication,
    PublishedExample,
    PublishedFeature,
    PublishedLabel,
    PublishedScore,
)
from featuredb.labels.published_files import Row, Where

PUBLISHER = "delphi"
LABEL, SCORE = range(2)
COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
NO_LABEL = {"Explanation could not be parsed.", "No explanation found"}
"""What Delphi writes in an explanation's place when there is none."""

_LATENT = re.compile(r"(?P<module>.+)_(?:latent|feature)(?P<index>\d{1,18})\.(?:txt|json)")
_LONGEST_LABEL = 2**20
_TOGETHER = 1024
_MOST_ANSWERS = 100_000


class Delphi:
    """A folder of Delphi's results at one module: its explanations, and its scores worked out from each answer."""

    name = "delphi.v1"

    def recognises(self, source: Path) -> bool:
        folder, wanted = _split(source)
        try:
            parts = _parts(folder).values() if folder.is_dir() else ()
            return any(wanted in (None, module) for part in parts for module, _, _ in _latents(part))
        except OSError:
            return False

    def read(self, source: Path) -> Publication:
        folder, wanted = _split(source)
        if not folder.is_dir():
            raise NotFound(f"no folder at {source}") if not folder.exists() else BadInput(f"{source} is not a folder")
        try:
            parts = {name: list(_latents(part)) for name, part in _parts(folder).items()}
        except OSError as error:
            raise files.unreadable(folder, error) from error
        module = _module(source, {one for found in parts.values() for one, _, _ in found}, wanted)
        reading = _Reading()
        for name, found in parts.items():
            for of, index, path in found:
                if of == module:
                    reading.take(name, index, path)
        config = _config(folder)
        model, hook = str(config.get("model") or ""), canonical_hook(module.lstrip("."))
        told = {"sparse_model": config.get("sparse_model"), "explainer_model": config.get("explainer_model")}
        extra = {"source": f"{folder.resolve().name}/{module}", "module": module, "layer": layer_of(hook), **told}
        return Publication(
            name=files.dictionary_name(str(config.get("sparse_model") or model or folder.resolve().name), module),
            publisher=PUBLISHER,
            model=model,
            hook=hook,
            n_features=reading.spool.n_features,
            features=_Features(reading, str(config.get("explainer") or "default"), told["explainer_model"]),
            extra={name: value for name, value in extra.items() if isinstance(value, str | int)},
            warnings=tuple(reading.said()),
        )

    def write(self, request: ExportRequest, folder: Path) -> int:
        from featuredb.labels.gather import Gathered

        with Gathered(ExportRequest(request.db, request.dictionary, 0, labels_only=True), PUBLISHER) as gathered:
            module = str(gathered.published.get("module") or gathered.hook or gathered.name).replace("/", "--")
            models, n_written = set(), 0
            for start in range(0, gathered.n_features, _TOGETHER):
                chosen = range(start, min(start + _TOGETHER, gathered.n_features))
                # A feature has one explanation here.
                for index, (label,) in gathered.labels(chosen, shown=True).items():
                    _write_json(folder / "explanations" / f"{module}_latent{index}.txt", label.text)
                    for name, rows in _score_files(label.scores).items():
                        _write_json(folder / "scores" / name / f"{module}_latent{index}.txt", rows)
                    models.add(label.model)
                    n_written += 1
            sparse = gathered.published.get("sparse_model") or gathered.name
            config = {"model": gathered.model, "sparse_model": sparse, "hookpoints": [module]}
            (only,) = models if len(models) == 1 else (None,)
            _write_json(folder / "run_config.json", config | ({"explainer_model": only} if only else {}))
        return n_written


def _split(source: Path) -> tuple[Path, str | None]:
    """A folder of results, and the module where the path ends with one: results/layers.5.mlp."""
    if not source.exists() and source.parent.is_dir():
        return source.parent, source.name
    return source, None


def _parts(folder: Path) -> dict[str, Path]:
    """The folders of explanations, under "", and of each scorer."""
    explanations, scores = folder / "explanations", folder / "scores"
    if not explanations.is_dir() and not scores.is_dir():
        return {"": folder}
    parts = {"": explanations} if explanations.is_dir() else {}
    below = sorted(scores.iterdir()) if scores.is_dir() else []
    return parts | {one.name: one for one in below if one.is_dir()}


def _latents(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Module, index and path of each feature's file, by module and index."""
    found = [(match, path) for path in folder.iterdir() if (match := _LATENT.fullmatch(path.name))]
    yield from sorted((match["module"], int(match["index"]), path) for match, path in found)


def _module(source: Path, modules: set[str], wanted: str | None) -> str:
    if not modules and wanted is not None:
        raise NotFound(f"no folder at {source}")
    if not modules:
        raise BadInput(f"{source} holds no file such as layers.5.mlp_latent12.txt", hint="is it a folder of results?")
    listed = sorted(modules)
    if wanted is not None and wanted not in modules:
        raise NotFound(f"no module {wanted!r} in {source.parent}", hint=nearest(wanted, listed, otherwise=listed[0]))
    if wanted is None and len(modules) > 1:
        raise BadInput(f"{source} holds {len(modules)} modules", hint=f"name one: {source / listed[0]}")
    return wanted or listed[0]


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "run_config.json"
    found = files.json_file(path, longest=_LONGEST_LABEL) if path.is_file() else {}
    if not isinstance(found, dict):
        raise Where(path).bad("not a JSON object")
    return found


class _Reading:
    """The files of one module, put in order of feature."""

    def __init__(self) -> None:
        self.spool = FeatureSpool()
        self._explained: set[int] = set()
        self._scored: set[int] = set()
        self._unknown: dict[str, int] = {}

    def take(self, scorer: str, index: int, path: Path) -> None:
        where = Where(path)
        files.feature_index({"index": index}, "index", where)
        value = files.json_file(path, longest=files.MAX_ROW if scorer else _LONGEST_LABEL)
        if not scorer:
            if not isinstance(value, str):
                raise where.bad("not a JSON string, as an explanation is")
            self._explained.add(index)
            body: Row = {"text": value}
        else:
            found = _score(value, where)
            self._scored.add(index)
            if found is None:
                self._unknown[scorer] = self._unknown.get(scorer, 0) + 1
                return
            body = {**found, "scorer": found.get("scorer") or scorer}
        self.spool.add(index, SCORE if scorer else LABEL, 0, 0, files.packed(body, where))

    def said(self) -> Iterator[str]:
        for scorer, count in sorted(self._unknown.items()):
            yield f"scores/{scorer}: {count:,} files are in a form that is not known, and are left"
        if bare := len(self._scored - self._explained):
            yield f"{bare:,} features have scores and no explanation; their scores are left"


class _Features:
    def __init__(self, reading: _Reading, labeler: str, model: object) -> None:
        self._reading = reading
        self._labeler = labeler
        self._model = model if isinstance(model, str) else None

    def __iter__(self) -> Iterator[PublishedFeature]:
        for index, rows in self._reading.spool:
            yield self._put_together(index, rows)

    def _put_together(self, index: int, rows: Sequence[Spooled]) -> PublishedFeature:
        bodies = [(row.kind, json.loads(row.body)) for row in rows]
        given = sorted((body for kind, body in bodies if kind == SCORE), key=lambda one: str(one["scorer"]))
        # Every scorer was shown the same examples.
        texts = {(tuple(one["tokens"]), tuple(one["activations"])) for score in given for one in score["examples"]}
        examples = [PublishedExample(tokens, activations) for tokens, activations in texts]
        examples.sort(key=lambda one: (-max(one.activations), one.tokens, one.activations))
        scores = tuple(_made_score(one) for one in given)
        labels = [self._label(body["text"], scores) for kind, body in bodies if kind == LABEL]
        return PublishedFeature(index=index, examples=tuple(examples), labels=tuple(labels))

    def _label(self, text: str, scores: tuple[PublishedScore, ...]) -> PublishedLabel:
        failed = {"failed": text} if text.strip() in NO_LABEL else {}
        return PublishedLabel(
            text="" if failed else text, labeler=self._labeler, model=self._model, scores=scores, extra=failed
        )


def _made_score(body: Row) -> PublishedScore:
    value = math.nan if body["value"] is None else body["value"]
    return PublishedScore(
        scorer=body["scorer"],
        value=value,
        n=body["n"],
        failed=body["failed"],
        baseline=body.get("baseline"),
        judge=body.get("judge"),
        details=body["details"],
    )


def _score(value: Any, where: Where) -> Row | None:
    """A score's file as one figure; None where its form is not known. Raises BadInput where it is broken."""
    if isinstance(value, dict) and "value" in value:
        return _stated(value, where)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise where.bad("not a JSON list of objects, as a score is")
    if value and all("activating" in row and "prediction" in row for row in value):
        return _classified(value, where)
    if value and all("correlation" in row and "quantile" in row for row in value):
        return _simulated(value, where)
    if value and all("correct" in row and "prediction" in row for row in value):
        return _found_out(value, where)
    return None


def _classified(rows: Sequence[Row], where: Where) -> Row:
    """Balanced accuracy of detection and fuzzing, over the examples that were answered.

    Delphi's own figure counts a class of which nothing was answered as all wrong; here there is then no figure.
    """
    counts = dict.fromkeys(COUNTS, 0)
    failed = 0
    examples: list[Row] = []
    for row in rows:
        active, answer = row["activating"], row["prediction"]
        if not isinstance(active, bool):
            raise where.bad(f"activating is {files.said(active)}, not true or false")
        if answer is None:
            failed += 1
        elif not isinstance(answer, bool | int | float):
            raise where.bad(f"prediction is {files.said(answer)}")
        else:
            truth = "true" if (answer >= 0.5) == active else "false"
            counts[f"{truth}_{'positives' if answer >= 0.5 else 'negatives'}"] += 1
        if active and row.get("str_tokens") and row.get("activations"):
            tokens, activations = files.activated(row, "str_tokens", "activations", where)
            examples.append({"tokens": tokens, "activations": activations})
    details: Row = {**counts}
    positives = counts["true_positives"] + counts["false_negatives"]
    negatives = counts["true_negatives"] + counts["false_positives"]
    value = None
    if positives and negatives:
        value = (counts["true_positives"] / positives + counts["true_negatives"] / negatives) / 2
    else:
        details["reason"] = f"of {'activating' if not positives else 'other'} examples none was answered"
    return {
        "value": value,
        "n": positives + negatives,
        "failed": failed,
        "details": details,
        "examples": [one for one in examples if any(activation > 0 for activation in one["activations"])],
    }


def _simulated(rows: Sequence[Row], where: Where) -> Row:
    """The correlation over all sequences, which Delphi files under quantile -1."""
    whole = [row for row in rows if row["quantile"] == -1] or (rows if len(rows) == 1 else [])
    value = files.number(whole[0], "correlation", where) if whole else None
    count = whole[0].get("sequence_count") if whole else None
    details = {} if value is not None else {"reason": "no correlation over all sequences"}
    n = count if isinstance(count, int) else None
    return {"value": value, "n": n, "failed": None, "details": details, "examples": []}


def _found_out(rows: Sequence[Row], where: Where) -> Row:
    """The share of intruders that were found."""
    answered = [row for row in rows if row["correct"] is not None]
    if not all(isinstance(row["correct"], bool) for row in answered):
        raise where.bad("correct is neither true nor false")
    value = sum(row["correct"] for row in answered) / len(answered) if answered else None
    details = {} if answered else {"reason": "none was answered"}
    failed = len(rows) - len(answered)
    return {"value": value, "n": len(answered), "failed": failed, "details": details, "examples": []}


def _stated(value: Row, where: Where) -> Row:
    """A figure that `write` had no answers to put down for."""
    details = value.get("details")
    counts = {name: value.get(name) for name in ("n", "failed")}
    if not all(count is None or type(count) is int for count in counts.values()):
        raise where.bad("n and failed are whole numbers")
    return {
        "scorer": files.string(value, "scorer", where) or None,
        "value": files.number(value, "value", where),
        **counts,
        "baseline": files.number(value, "baseline", where),
        "judge": files.string(value, "judge", where),
        "details": details if isinstance(details, dict) else {},
        "examples": [],
    }


def _score_files(scores: Sequence[PublishedScore]) -> dict[str, Any]:
    """What lies in each scorer's folder: an answer for each counted one, without its text; else the figure itself."""
    found: dict[str, Any] = {}
    for score in scores:
        name = files.dictionary_name(score.scorer)
        while name in found:
            name += "-again"
        found[name] = _answers(score) or _figure(score)
    return found


def _answers(score: PublishedScore) -> list[Row]:
    """Answers that give the same figure; none where it says more than answers can, or is not of answers."""
    told = [score.details.get(count) for count in COUNTS]
    counts = [count for count in told if isinstance(count, int) and not isinstance(count, bool) and count >= 0]
    more = bool(set(score.details) - set(COUNTS) - {"reason"}) or (score.judge, score.baseline) != (None, None)
    failed = score.failed or 0
    if more or len(counts) < len(COUNTS) or sum(counts) + failed > _MOST_ANSWERS:
        return []
    kinds = ((True, True), (False, True), (False, False), (True, False))
    rows = [_answer(*kind) for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return rows + [_answer(False, None) for _ in range(failed)]


def _figure(score: PublishedScore) -> Row:
    return {
        "scorer": score.scorer,
        "value": score.value if math.isfinite(score.value) else None,
        "n": score.n,
        "failed": score.failed,
        "baseline": score.baseline,
        "judge": score.judge,
        "details": dict(score.details),
    }


def _answer(active: bool, said: bool | None) -> Row:
    return {
        "str_tokens": [],
        "activations": [],
        "distance": 0.0,
        "activating": active,
        "prediction": said,
        "probability": None,
        "correct": None if said is None else said == active,
    }


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")
