"""A concept made from contrasting texts: a model loaded, its vectors of the texts, a direction of them at each hook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from featuredb.concepts.catalog import Made, check_new
from featuredb.concepts.heldout import Folds, folds, held_out
from featuredb.concepts.methods import METHODS, PCA_OF_PAIRS, Method, lda_with
from featuredb.concepts.request import ConceptRequest
from featuredb.concepts.states import Vectors32, n_windowed, states
from featuredb.concepts.texts import Texts, read_texts
from featuredb.errors import BadInput, NotFound
from featuredb.hooknames import same_tensor
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.store.catalog import DictionaryRow, ModelRow, RunRow, SegmentRow
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.model import Model
    from featuredb.store.moments import Moments

TOKENS_A_DIMENSION = 20
"""A covariance over fewer tokens than this for each of its dimensions is left alone."""

HELD_NUMBERS = 1 << 28
"""Where every token counts, hooks are run in groups whose vectors stay below this many numbers."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A model of the store, and how its newest run ran it."""

    name: str
    source: str
    fingerprint: str
    hooks: tuple[str, ...]
    """Where its dictionaries read and write."""
    settings: dict[str, Any]


def make(store: Store | None, request: ConceptRequest, progress: ProgressReport = silent) -> Made:
    """The concept that a request asks for; nothing is kept yet.

    store: whose models and dictionaries count; None where there is none yet, and then the request names a model.
    Raises BadInput for texts, names and settings that cannot be, NotFound for files, models and hooks that are not.
    """
    texts = read_texts(request.positive, request.negative)
    paired = len(texts.positive) == len(texts.negative)
    known = _known(store, request)
    method, notes = _method(request, texts, paired)
    model = _load(request, known)
    hooks = _hooks(model, request, known)
    fold = folds(texts, paired=paired, seed=request.seed)
    by_hook: dict[str, NDArray[np.float32]] = {}
    figures: dict[str, dict[str, Any]] = {}
    for hook, positive, negative in _vectors(model, texts, hooks, request, progress):
        moments = _corpus_moments(store, known, hook) if request.method == "lda" else None
        here = method if moments is None else lda_with(moments)
        by_hook[hook] = _direction(here, hook, positive, negative, request)
        figures[hook] = held_out(here, positive, negative, fold)
        if moments is not None:
            figures[hook]["covariance_tokens"] = moments.n
        progress(Progress("directions", len(by_hook), len(hooks), "hooks"))
    notes += _remarks(model, texts, request, figures)
    return Made(
        name=request.name,
        method=request.method,
        by_hook=by_hook,
        figures=figures,
        settings=_settings(model, request, paired, fold),
        texts=texts,
        model=known.name if known else model.name,
        fingerprint=model.fingerprint,
        notes=tuple(notes),
    )


def _method(request: ConceptRequest, texts: Texts, paired: bool) -> tuple[Method, list[str]]:
    """The method for these texts, and what there is to say about that."""
    method, notes = METHODS[request.method], []
    if request.method == "pca" and paired and request.token != "all":
        method = PCA_OF_PAIRS
    elif request.method == "pca":
        why = "texts are no pairs where every token counts" if paired else "the sides are not paired"
        notes = [f"{why}: pca of both sides about their midpoint"]
    for side, those in (("positive", texts.positive), ("negative", texts.negative)):
        n = len(set(those))
        if n < method.least:
            raise BadInput(
                f"{request.method} needs {method.least} different {side} texts, and was given {n}",
                hint="give more, or take --method mean-difference",
            )
    return method, notes


def _known(store: Store | None, request: ConceptRequest) -> _Known | None:
    """The store's model that is meant, None for one that is not in the store."""
    if store is None:
        if request.model is None:
            raise BadInput("there is no store, so which model to run is not known", hint="give --model")
        return None
    with store.reading() as session:
        check_new(session, request.name, replace=request.replace)
        rows = session.scalars(select(ModelRow).order_by(ModelRow.id)).all()
        named = None if request.model is None else {request.model, _lasting(request.model)}
        meant = [row for row in rows if named is None or named & {row.name, row.source}]
        if request.model is None and not rows:
            raise NotFound("the store has no model yet", hint="say which to run with --model")
        if len({row.source for row in meant}) > 1:
            told = ", ".join(sorted({f"{row.name} ({row.source})" for row in meant}))
            raise BadInput(
                f"the store has {len(meant)} models that may be meant: {told}", hint="say which with --model"
            )
        if not meant:
            return None
        row = meant[-1]  # of several from one place, the newest is what lies there now
        dictionaries = session.scalars(
            select(DictionaryRow).where(DictionaryRow.model_id == row.id).order_by(DictionaryRow.name)
        ).all()
        run = session.scalars(select(RunRow).where(RunRow.model_id == row.id).order_by(RunRow.id.desc())).first()
        read = [hook for each in dictionaries for hook in (each.hook, *each.hooks_out)]
        settings = dict(run.settings) if run else {}
        return _Known(row.name, row.source, row.fingerprint, tuple(dict.fromkeys(read)), settings)


def _load(request: ConceptRequest, known: _Known | None) -> Model:
    from featuredb.model import load_model

    running = request.running
    dtype, trust = running.dtype, running.trust_remote_code
    if known is not None:
        dtype = known.settings.get("dtype", "auto") if dtype == "auto" else dtype
        trust = trust or bool(known.settings.get("trust_remote_code", False))
    source = known.source if known else str(request.model)
    model = load_model(source, device=running.device, dtype=dtype, trust_remote_code=trust)
    if known is not None and model.fingerprint != known.fingerprint:
        raise BadInput(
            f"the model at {source} is not the one the store knows as {known.name!r}",
            hint="ingest it again, or put the old weights back",
        )
    return model


def _hooks(model: Model, request: ConceptRequest, known: _Known | None) -> list[str]:
    """Canonical names of where directions are made, in the order a forward pass meets them, each tensor once."""
    wanted = [model.resolve_hook(hook) for hook in request.hooks]
    beyond = [layer for layer in request.layers if layer >= model.n_layers]
    if beyond:
        raise NotFound(f"{model.name} has no layer {beyond[0]}", hint=f"its layers are 0 to {model.n_layers - 1}")
    wanted += [f"layers.{layer}.resid_post" for layer in request.layers]
    if not wanted and known is not None:
        # What a dictionary of another library writes to may have no name here.
        wanted = [hook for hook in known.hooks if hook in model.hook_map.points]
    if not wanted:
        wanted = [f"layers.{layer}.resid_post" for layer in range(model.n_layers)]
    order = {hook: place for place, hook in enumerate(model.hooks())}
    by_tensor = {same_tensor(hook): hook for hook in reversed(wanted)}
    return sorted(by_tensor.values(), key=lambda hook: order[hook])


def _corpus_moments(store: Store | None, known: _Known | None, hook: str) -> Moments | None:
    """The moments of a hook over the corpus of the model's newest run that kept them; None where there are none, or
    where too few tokens stand behind them."""
    if store is None or known is None:
        return None
    from featuredb.store.moments import read_moments

    found = (
        select(SegmentRow.moments, DictionaryRow.hook)
        .join(RunRow, SegmentRow.run_id == RunRow.id)
        .join(DictionaryRow, SegmentRow.dictionary_id == DictionaryRow.id)
        .join(ModelRow, DictionaryRow.model_id == ModelRow.id)
        .where(ModelRow.fingerprint == known.fingerprint, SegmentRow.moments.is_not(None))
        .order_by(RunRow.id.desc())
    )
    with store.reading() as session:
        paths = [path for path, at in session.execute(found) if path and same_tensor(at) == same_tensor(hook)]
    if not paths:
        return None
    moments = read_moments(store.path / paths[0])
    return moments if moments.n >= TOKENS_A_DIMENSION * moments.width else None


def _vectors(
    model: Model, texts: Texts, hooks: Sequence[str], request: ConceptRequest, progress: ProgressReport
) -> Iterator[tuple[str, list[Vectors32], list[Vectors32]]]:
    """Each hook with the vectors of the positive and of the negative texts."""
    group = len(hooks)
    if request.token == "all":
        n_tokens = sum(len(model.encode_text(text)) for text in texts.all)
        group = max(min(group, HELD_NUMBERS // (max(n_tokens, 1) * model.d_model)), 1)
    for start in range(0, len(hooks), group):
        found = states(
            model,
            texts.all,
            hooks[start : start + group],
            token=request.token,
            chat=request.chat,
            batch_size=request.running.batch_size,
            progress=progress if start == 0 else silent,
        )
        for hook in hooks[start : start + group]:
            vectors = found.pop(hook)
            yield hook, vectors[: len(texts.positive)], vectors[len(texts.positive) :]


def _direction(
    method: Method, hook: str, positive: Sequence[Vectors32], negative: Sequence[Vectors32], request: ConceptRequest
) -> NDArray[np.float32]:
    direction = method.make(np.concatenate(positive), np.concatenate(negative))
    if not np.isfinite(direction).all():
        raise BadInput(f"{hook}: {request.method} gives no finite direction", hint="try --method mean-difference")
    if not direction.any():
        same = "both sides have the same vectors there"
        if method is PCA_OF_PAIRS:
            same = "every pair differs by the same vector there, and pca takes out what pairs share"
        raise BadInput(
            f"{hook}: {request.method} finds no direction: {same}",
            hint="try --token mean, --method mean-difference, or a later layer",
        )
    return direction


def _remarks(model: Model, texts: Texts, request: ConceptRequest, figures: dict[str, dict[str, Any]]) -> list[str]:
    notes = []
    n_long = n_windowed(model, texts.all, request.chat)
    if n_long:
        notes.append(
            f"{n_long} of {len(texts.all)} texts are longer than {model.max_length} tokens: cut, none left out"
        )
    n_tokens = min((each.get("covariance_tokens", 0) for each in figures.values()), default=0)
    if n_tokens:
        notes.append(f"lda with the hook's covariance over {n_tokens:,} tokens of the store's corpus")
    repeated = len(texts.all) - len(set(texts.positive)) - len(set(texts.negative))
    if repeated:
        notes.append(f"{repeated} texts repeat others of their side; they count each time")
    if len(texts.positive) != len(texts.negative) and any((each["auroc_high"] or 1) < 0.5 for each in figures.values()):
        notes.append(
            "an AUROC below one half: if texts of the sides go together, give them line for line, as many each"
        )
    if all(each["auroc"] is None for each in figures.values()):
        notes.append("too few texts to leave any out: no held-out AUROC")
    return notes


def _settings(model: Model, request: ConceptRequest, paired: bool, fold: Folds | None) -> dict[str, Any]:
    from featuredb.capture.finish import versions

    return {
        "token": request.token,
        "chat": request.chat,
        "seed": request.seed,
        "paired": paired,
        "folds": None if fold is None else int(fold.max()) + 1,
        "source": _lasting(model.source),
        "model_type": getattr(getattr(model.module, "config", None), "model_type", None),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "versions": versions(),
    }


def _lasting(source: str) -> str:
    """A model's source as it will be found again from anywhere: a folder by its full path, an id as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
