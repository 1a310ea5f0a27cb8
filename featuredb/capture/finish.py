"""From full reducers to a committed run: segments, vectors and index written, moved into place, and entered at once."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from featuredb.capture.output_tokens import output_tokens
from featuredb.capture.plan import Plan
from featuredb.capture.segment import (
    OutputTokens,
    bin_edges,
    kept_contexts,
    write_contexts,
    write_dictionary,
)
from featuredb.capture.state import CaptureState, FeatureReducers
from featuredb.corpora import corpus_name
from featuredb.dictionary import Dictionary
from featuredb.progress import Progress, ProgressReport
from featuredb.store.files import FileRecord, describe_file, rename_into_place
from featuredb.store.indices import Indexed, encoder_index, response_index
from featuredb.store.layout import Layout
from featuredb.store.runs import (
    CorpusRecord,
    DictionaryRecord,
    ModelRecord,
    RunRecord,
    SegmentRecord,
    commit_run,
    dictionary_fingerprint,
)
from featuredb.store.store import Store
from featuredb.store.vectors import Rows, write_index

LIBRARIES = ("featuredb", "torch", "transformers", "duckdb", "faiss-cpu", "numpy")


def finish(store: Store, plan: Plan, state: CaptureState, report: ProgressReport) -> None:
    """Writes everything below the run's work folder, then moves it into place and commits it in one transaction."""
    writer = _Writer(store, plan, state, report)
    writer.write()
    rename_into_place(writer.unfinished.root, store.path)
    commit_run(store, writer.run_record(), writer.segments, writer.files)


class _Writer:
    """Writes a finished run below `unfinished`, laid out as the store is, and notes what the catalog must know."""

    def __init__(self, store: Store, plan: Plan, state: CaptureState, report: ProgressReport) -> None:
        self.store, self.plan, self.state, self.report = store, plan, state, report
        self.unfinished = Layout(state.folder / "done")
        self.segments: list[SegmentRecord] = []
        self.files: list[FileRecord] = []
        self.kept = kept_contexts(state.reducers, state.panel.context)
        self._stage = 0

    def write(self) -> None:
        plan, layout = self.plan, self.unfinished
        shutil.rmtree(layout.root, ignore_errors=True)
        layout.run_folder(plan.key).mkdir(parents=True)
        self._tell()
        contexts = layout.contexts(plan.key)
        texts = plan.model.token_texts()
        write_contexts(contexts, self.state.spool, self.kept, self.state.panel.context, texts, self._meta())
        self._note(contexts, "contexts")
        for hook in self.state.hooks:
            self._write_moments(hook)
        unembedding = plan.model.unembedding()
        for dictionary, hook, reducers in zip(plan.dictionaries, plan.hooks, self.state.reducers, strict=True):
            tokens = None
            if unembedding is not None and dictionary.d_out == len(unembedding):
                tokens = output_tokens(dictionary, unembedding, len(texts))
            self._write_segment(dictionary, hook, reducers, tokens)
            self._write_vectors(dictionary)
            self._tell()

    def run_record(self) -> RunRecord:
        plan, state = self.plan, self.state
        model, corpus = plan.model, plan.request.corpus
        return RunRecord(
            key=plan.key,
            model=ModelRecord(
                model.name, _lasting(model.source), model.fingerprint, model.architecture, model.n_layers, model.d_model
            ),
            corpus=CorpusRecord(corpus_name(corpus.spec), corpus.spec, plan.corpus_plugin),
            n_tokens=state.n_tokens,
            n_contexts=state.n_contexts,
            n_kept=len(self.kept),
            context_length=plan.packing.context_length,
            packing=plan.packing.kind,
            seed=plan.request.settings.seed,
            settings={**plan.settings(), "trust_remote_code": plan.request.model.trust_remote_code},
            versions=versions(),
        )

    def _write_moments(self, hook: str) -> None:
        """n, mean (d,) and covariance (d, d) of the hook's vectors, float64."""
        moments = self.state.hooks[hook]
        path = self.unfinished.moments(self.plan.key, hook)
        save_file({"n": np.array([moments.n]), "mean": moments.mean(), "covariance": moments.covariance()}, path)
        self._note(path, "moments")

    def _write_segment(
        self, dictionary: Dictionary, hook: str, reducers: FeatureReducers, tokens: OutputTokens | None
    ) -> None:
        key, layout = self.plan.key, self.unfinished
        panel: NDArray[np.int64] = self.state.panel.context
        path = layout.segment(key, dictionary.name)
        meta = self._meta() | {"dictionary": dictionary.name, "fingerprint": dictionary.fingerprint, "hook": hook}
        written = write_dictionary(path, reducers, self.kept, panel, self.state.n_tokens, tokens, meta)
        self._note(path, "segment", dictionary)
        figures = reducers.statistics
        response = reducers.cross.response(
            self.state.hooks[hook], figures.total, figures.deviation(self.state.n_tokens)
        )
        directions = layout.response(key, dictionary.name)
        save_file({"response": response}, directions)
        self._note(directions, "response", dictionary)
        self._write_further_index(response_index(layout, key, dictionary.name, layout.moments(key, hook)), dictionary)
        self.segments.append(
            SegmentRecord(
                dictionary=_dictionary_record(dictionary, hook),
                path=layout.relative(path),
                n_features=dictionary.n_features,
                n_examples=written.n_examples,
                n_panel=written.n_panel,
                moments=layout.relative(layout.moments(key, hook)),
            )
        )

    def _write_vectors(self, dictionary: Dictionary) -> None:
        """The dictionary itself and the index over its decoder, unless the store has them from an earlier run."""
        if dictionary_fingerprint(self.store, dictionary.name) is not None:
            return
        layout = self.unfinished
        layout.dictionary_folder(dictionary.name).mkdir(parents=True)
        weights, index = layout.weights(dictionary.name), layout.decoder_index(dictionary.name)
        dictionary.save(weights)
        self._note(weights, "weights", dictionary)
        write_index(Rows(weights, "w_dec"), index, of=self.files[-1].sha256)
        self._note(index, "decoder-index", dictionary)
        self._write_further_index(encoder_index(layout, dictionary.name), dictionary)

    def _write_further_index(self, index: Indexed, dictionary: Dictionary) -> None:
        """The index over encoder or response directions, where they are too many to look at one by one."""
        if index.is_needed():
            (vectors,) = (file for file in self.files if file.path == index.vectors)
            index.write(index.path, of=vectors.sha256)
            self._note(index.path, index.role, dictionary)

    def _note(self, path: Path, role: str, dictionary: Dictionary | None = None) -> None:
        name = None if dictionary is None else dictionary.name
        self.files.append(describe_file(path, self.unfinished.relative(path), role, dictionary=name))

    def _meta(self) -> dict[str, str]:
        settings = self.plan.request.settings
        return {
            "run": self.plan.key,
            "model": self.plan.model.name,
            "corpus": self.plan.request.corpus.spec,
            "n_tokens": str(self.state.n_tokens),
            "n_contexts": str(self.state.n_contexts),
            "context_length": str(self.plan.packing.context_length),
            "seed": str(settings.seed),
            "histogram_from": bin_edges(),
            **{f"version.{library}": number for library, number in versions().items()},
        }

    def _tell(self) -> None:
        self.report(Progress("write", self._stage, len(self.plan.dictionaries), "dictionaries"))
        self._stage += 1


def versions() -> dict[str, str]:
    """The versions of the libraries whose arithmetic a run rests on."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "unknown"
    return found


def _dictionary_record(dictionary: Dictionary, hook: str) -> DictionaryRecord:
    return DictionaryRecord(
        name=dictionary.name,
        kind=dictionary.kind,
        source=dictionary.source,
        plugin=dictionary.plugin,
        hook=hook,
        n_features=dictionary.n_features,
        d_in=dictionary.d_in,
        d_out=dictionary.d_out,
        fingerprint=dictionary.fingerprint,
        hooks_out=dictionary.hooks_out,
        trained=asdict(dictionary.trained),
    )


def _lasting(source: str) -> str:
    """A model's source as it will be found again from anywhere: a folder by its full path, an id as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
