"""What a corpus is made of: documents, each a name and its text. No reading happens here; plugins read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus, in the order the corpus gives them."""

    name: str
    """Where it came from, unique in its corpus: a path, or a path and a row."""
    text: str
    """The whole text, decoded."""


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """How a corpus plugin should read its source."""

    column: str | None = None
    """The column or JSON field that holds the text; None lets the plugin use "text"."""
    split: str | None = None
    """The split of a data set that has several; None means "train"."""
    skip_bad_rows: bool = False
    """Pass over rows and files that cannot be read, counting them, where the default is to stop at the first."""
    on_skip: Callable[[str], None] = field(default=lambda reason: None, compare=False)
    """Told why, once for each row or file passed over."""
