"""Hugging Face data sets, one document a row: by id from the Hub, or from a folder on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featuredb.corpus import CorpusOptions, Document
from featuredb.corpus_files import missing_path
from featuredb.errors import BadInput, NotFound, PluginFailed

BATCH_ROWS = 256


class HuggingFace:
    """`huggingface:ID[@CONFIG]`, or a folder with data files or from save_to_disk; streamed, nulls passed over."""

    name = "huggingface.v1"
    suffixes: tuple[str, ...] = (".arrow",)

    def documents(self, source: str, options: CorpusOptions) -> Iterator[Document]:
        if not source:
            raise BadInput("no data set is named", hint="write its id or folder, as in huggingface:NeelNanda/pile-10k")
        column = options.column or "text"
        rows = _open(source, options.split)
        names = rows.column_names
        if names is not None:
            _require(column, names, source)
            rows = rows.select_columns([column])
        name = Path(source).name
        for row, text in enumerate(_values(rows, column, source)):
            if isinstance(text, str):
                yield Document(f"{name}:{row}", text)
                continue
            reason = f"{source}: row {row}: {column!r} is {'null' if text is None else 'not text'}"
            if text is not None and not options.skip_bad_rows:
                raise BadInput(reason, hint=f"it is a {type(text).__name__}")
            options.on_skip(reason)


def _open(source: str, split: str | None) -> Any:
    """A Dataset or IterableDataset of the split."""
    try:
        import datasets
    except ImportError as error:
        raise PluginFailed("the huggingface plugin needs datasets", hint="pip install datasets") from error
    path = Path(source).expanduser()
    try:
        if path.is_file():
            return datasets.Dataset.from_file(str(path))
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return _split_of(datasets.load_from_disk(str(path)), source, split)
        if path.is_dir():
            return datasets.load_dataset(str(path), split=split or "train", streaming=True)
        if source.startswith((".", "/", "~")) or source.count("/") > 1:
            raise missing_path(source)
        hub_id, _, config = source.partition("@")
        return datasets.load_dataset(hub_id, config or None, split=split or "train", streaming=True)
    except ConnectionError as error:
        raise PluginFailed(
            f"cannot reach the Hugging Face Hub for {source!r}, and no copy is cached",
            hint="offline, give a folder on disk instead: huggingface:FOLDER",
        ) from error
    except FileNotFoundError as error:
        raise NotFound(f"no data set {source!r}: {_first_line(error)}", hint="an id is written OWNER/NAME") from error
    except ValueError as error:
        # The library's own words name the splits or configurations there are.
        raise BadInput(f"{source}: {_first_line(error)}", hint="give --split, or the config as ID@CONFIG") from error


def _split_of(saved: Any, source: str, split: str | None) -> Any:
    """One split of what save_to_disk left: a data set, or a dictionary of them."""
    if not isinstance(saved, dict):
        if split is not None and str(saved.split) != split:
            raise BadInput(
                f"{source}: no split {split!r}", hint=f"it holds one data set, of split {str(saved.split)!r}"
            )
        return saved
    if (split or "train") not in saved:
        raise BadInput(f"{source}: no split {split or 'train'!r}", hint=f"it has {', '.join(map(repr, saved))}")
    return saved[split or "train"]


def _values(rows: Any, column: str, source: str) -> Iterator[object]:
    try:
        for batch in rows.iter(BATCH_ROWS):
            _require(column, list(batch), source)
            yield from batch[column]
    except OSError as error:
        raise PluginFailed(f"{source}: reading broke off: {_first_line(error)}", hint="run it again") from error


def _require(column: str, names: list[str], source: str) -> None:
    if column not in names:
        raise BadInput(f"{source}: no column {column!r}", hint=f"it has {', '.join(map(repr, names))}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
