"""One ingest from request to commit: the order of things, and what happens when they are interrupted.

work/<key>/          where an unfinished run lies, locked by the process that does it
work/<key>/done/     its finished files, moved to their final places just before the catalog's one commit
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from featuredb.capture.contexts import Context, pack
from featuredb.capture.finish import finish
from featuredb.capture.loop import CaptureLoop
from featuredb.capture.panel import PanelContexts
from featuredb.capture.plan import Plan, make_plan
from featuredb.capture.request import IngestRequest
from featuredb.capture.spool import ContextSpool
from featuredb.capture.state import CaptureState, FeatureReducers, chain_digest
from featuredb.corpora import open_corpus
from featuredb.corpus import CorpusOptions
from featuredb.dictionary import Dictionary, load_dictionary
from featuredb.errors import BadInput, StoreBusy
from featuredb.model import Model, load_model
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.store.engine import disk_errors
from featuredb.store.runs import dictionary_fingerprint, has_run
from featuredb.store.store import Store


def prepare(
    request: IngestRequest, *, model: Model | None = None, dictionaries: Sequence[Dictionary] | None = None
) -> Plan:
    """Loads what the request names, unless it is given, and makes the plan. Nothing is written."""
    if dictionaries is None:
        dictionaries = [found for spec in request.dictionaries for found in load_dictionary(spec)]
    if model is None:
        asked = request.model
        model = load_model(
            asked.source, device=asked.device, dtype=asked.dtype, trust_remote_code=asked.trust_remote_code
        )
    return make_plan(request, model, dictionaries)


def ingest(store: Store, plan: Plan, report: ProgressReport = silent) -> tuple[str, ...]:
    """Runs the plan, or what is left of it, and commits it under its key; a finished run is not run again.

    Returns what a reader of the run should know: the plan's notes, and how much of the corpus was passed over.

    Raises Interrupted on Ctrl-C, StoreBusy where another process is doing the same, BadInput on unusable text or
    activations. After any of them the store is as it was, and the same request goes on from the last checkpoint.
    """
    # A folder that outlived its run's commit is cleared away below.
    if has_run(store, plan.key) and not store.paths.work_folder(plan.key).exists():
        return plan.notes
    _refuse_other_weights(store, plan)
    with disk_errors(store.path), _locked(store.paths.work_folder(plan.key)) as folder:
        if plan.request.fresh:
            _empty(folder)
        skipped = _Skipped(report)
        try:
            if not has_run(store, plan.key):  # another process may have done it while we were loading
                state = _capture(plan, folder, skipped)
                finish(store, plan, state, report)
        except BaseException:
            if not (folder / "state.npz").exists():  # nothing that a next call could go on with
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)
    return (*plan.notes, *skipped.notes())


class _Skipped:
    """Counts the rows and files that the corpus passes over, and passes progress on."""

    def __init__(self, report: ProgressReport) -> None:
        self.report = report
        self.n = 0
        self._first = ""

    def __call__(self, reason: str) -> None:
        self.n += 1
        self._first = self._first or reason
        self.report(Progress("skip", self.n, None, "rows", reason))

    def notes(self) -> tuple[str, ...]:
        if self.n == 0:
            return ()
        return (f"{self.n:,} {'row' if self.n == 1 else 'rows'} of the corpus passed over; the first: {self._first}",)


def _capture(plan: Plan, folder: Path, skipped: _Skipped) -> CaptureState:
    watched = plan.watched()
    state = _begin(plan, folder)
    total = plan.request.corpus.n_tokens
    loop = CaptureLoop(plan.model, watched, state)

    def on_block() -> None:
        skipped.report(Progress("capture", state.n_tokens, total, "tokens"))

    contexts = _after(_contexts(plan, skipped), state)
    loop.run(contexts, on_block, plan.request.checkpoint_seconds)
    if state.n_tokens == 0:
        state.path.unlink(missing_ok=True)
        raise BadInput(f"{plan.request.corpus.spec} holds no token that counts", hint="is its text empty?")
    return state


def _begin(plan: Plan, folder: Path) -> CaptureState:
    """The state of an interrupted run, or a new one."""
    settings = plan.request.settings

    def new() -> CaptureState:
        shapes = [(dictionary.n_features, dictionary.d_in) for dictionary in plan.dictionaries]
        return CaptureState(
            folder,
            [FeatureReducers(shape, settings, folder / f"panel{i}.bin") for i, shape in enumerate(shapes)],
            PanelContexts(settings.n_panel, settings.seed),
            ContextSpool(folder, plan.packing.context_length),
            batch_size=plan.batch_size,
        )

    if not (folder / "state.npz").exists():
        _empty(folder)
        return new()
    state = new()
    state.load()
    return state


def _contexts(plan: Plan, skipped: _Skipped) -> Iterator[Context]:
    asked = plan.request.corpus
    options = CorpusOptions(asked.column, asked.split, asked.skip_bad_rows, skipped)
    documents = open_corpus(asked.spec, options)
    return pack(documents, plan.model.encode_text, plan.packing, plan.model.special_ids, asked.n_tokens)


def _after(contexts: Iterator[Context], state: CaptureState) -> Iterator[Context]:
    """The contexts that a state has not seen. Raises BadInput where those it has seen are no longer the same."""
    digest = ""
    for _ in range(state.n_contexts):
        context = next(contexts, None)
        if context is None:
            break
        digest = chain_digest(digest, [context])
    if digest != state.digest:
        raise BadInput("the corpus has changed since this run was interrupted", hint="begin it anew with --fresh")
    return contexts


def _refuse_other_weights(store: Store, plan: Plan) -> None:
    for dictionary in plan.dictionaries:
        if dictionary_fingerprint(store, dictionary.name) not in (None, dictionary.fingerprint):
            raise BadInput(
                f"the store has another dictionary called {dictionary.name!r}, with other weights",
                hint=f"give this one a --name, or `featuredb rm dictionary {dictionary.name}` first",
            )


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """The folder, which no other process works in meanwhile; the lock goes with the process, however it ends."""
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreBusy(
                    "another process is doing this very run", hint="wait for it; the answer will be in the store"
                ) from error
            if _is_same(path, lock.fileno()):
                yield folder
                return


def _is_same(path: Path, handle: int) -> bool:
    """Whether the open file is still the one at `path`: a process that ends removes its folder with the lock in it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    """Removes all but the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
