"""Opens a corpus by its spec: chooses the plugin and stands guard over what it yields. Reading is the plugins' work."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from featuredb.corpus import CorpusOptions, Document
from featuredb.corpus_files import missing_path, source_files
from featuredb.errors import BadInput, NotFound, PluginFailed
from featuredb.plugins import Corpus, Registry, bare, guarded, guarded_iter

# Two letters or more, so that C:\texts stays a path.
_SCHEME = re.compile(r"([A-Za-z][\w.-]+):(.*)", re.DOTALL)


def open_corpus(
    spec: str, options: CorpusOptions | None = None, *, registry: Registry | None = None
) -> Iterator[Document]:
    """The documents of a corpus, always in the same order; one is read before this returns.

    spec: `PLUGIN:SOURCE` (`text:notes/*.txt`, `jsonl:rows.jsonl`, `huggingface:ID@CONFIG`, `python-docs`), or a bare
    path whose suffix a plugin claims.
    Raises NotFound for an unknown plugin or a missing path, BadInput for what cannot be read and, at the end, for a
    corpus without one visible character; PluginFailed when the plugin itself breaks.
    """
    plugin, source = choose_plugin(spec, registry)
    given = guarded(plugin.name, lambda: iter(plugin.documents(source, options or CorpusOptions())))
    documents = _checked(spec, plugin.name, guarded_iter(plugin.name, given))
    # The first document is read now, so that a missing source is told before a model is loaded.
    return itertools.chain([next(documents)], documents)


def choose_plugin(spec: str, registry: Registry | None = None) -> tuple[Corpus, str]:
    """The corpus plugin for a spec, and the source to give it.

    Raises NotFound for an unknown plugin or a missing path, BadInput for a path that no plugin, or several, claim.
    """
    registry = registry or Registry.installed()
    scheme, source = _split(spec)
    if scheme is not None and (bare(scheme) in registry.names("corpora") or not _exists(spec)):
        return registry.corpus(scheme), source
    # A plugin that reads no files (python-docs) needs no source; `./python-docs` is the folder.
    if spec in registry.names("corpora") and not registry.corpus(spec).suffixes:
        return registry.corpus(spec), ""
    return _by_suffix(spec, registry), spec


def corpus_name(spec: str) -> str:
    """A short name for people to read; two specs may share it.

    `jsonl:/data/rows.jsonl` is rows.jsonl, `text:/data/books/*.txt` books, `python-docs:tests` itself.
    """
    scheme, source = _split(spec)
    fixed = [part for part in PurePath(source).parts if not glob.has_magic(part) and part not in ("/", ".", "..", "~")]
    if scheme is not None and (not fixed or fixed == [source] and not PurePath(source).suffix):
        return spec if fixed else scheme
    return fixed[-1] if fixed else spec


def _split(spec: str) -> tuple[str | None, str]:
    match = _SCHEME.fullmatch(spec)
    return (match[1], match[2]) if match else (None, spec)


def _exists(path: str) -> bool:
    return Path(path).expanduser().exists()


def _by_suffix(path: str, registry: Registry) -> Corpus:
    """The one plugin that claims a bare path; of two that claim an ending, the longer ending wins."""
    if not _exists(path) and not glob.has_magic(path):
        error = missing_path(path)
        hub_like = re.fullmatch(r"[\w.-]+/[\w.-]+", path) and "huggingface" in registry.names("corpora")
        raise NotFound(error.message, hint=f"a data set on the Hub is huggingface:{path}" if hub_like else error.hint)
    plugins: list[Corpus] = list(registry.working("corpora"))
    suffixes = sorted({suffix for plugin in plugins for suffix in plugin.suffixes}, key=len)
    claimed: dict[str, Corpus] = {}
    for file in source_files(path):
        fitting = [suffix for suffix in suffixes if file.name.lower().endswith(suffix)]
        claimed |= {plugin.name: plugin for plugin in plugins if fitting and fitting[-1] in plugin.suffixes}
    if len(claimed) == 1:
        return next(iter(claimed.values()))
    readers = [bare(name) for name in sorted(claimed)]
    if readers:
        raise BadInput(
            f"more than one plugin reads {path!r}: {', '.join(readers)}",
            hint="name one: " + " or ".join(f"{name}:{path}" for name in readers),
        )
    raise BadInput(
        f"cannot tell how to read {path!r}",
        hint=f"name its plugin, as in text:{path}; endings known: {' '.join(sorted(suffixes))}",
    )


def _checked(spec: str, plugin: str, documents: Iterator[Document]) -> Iterator[Document]:
    n_documents, has_text = 0, False
    for document in documents:
        if not isinstance(document, Document):
            raise PluginFailed(f"plugin {plugin!r} gave a {type(document).__name__} where a Document was due")
        n_documents += 1
        has_text = has_text or not (document.text.isspace() or not document.text)
        yield document
    if not has_text:
        told = f"its {n_documents} documents are blank" if n_documents else "it gave no document"
        raise BadInput(f"corpus {spec!r} holds no text", hint=told)
