"""A model of texts that is quick and means something: texts are near when they share words. Plugins for tests alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import NotFound, PluginFailed
from featuredb.plugins import Registry, TextEmbedding

WIDTH = 64


def toys() -> Registry:
    """The plugins below; `sentence-transformers` is the toy as well, so that it is the default."""
    names = {"toy": "Toy", "sentence-transformers": "Default", "absent": "Absent", "broken": "Broken"}
    return Registry([EntryPoint(name, f"{__name__}:{found}", "featuredb.embedders") for name, found in names.items()])


class Toy:
    """`toy:NAME`: any name but one with a slash."""

    name = "toy.v1"

    def load(self, source: str | None) -> TextEmbedding:
        if source is not None and "/" in source:
            raise NotFound(f"no toy at {source!r}")
        return Words(f"{self.name}:{source or 'words'}")


class Default(Toy):
    """The toy in the place of the real one."""

    name = "sentence-transformers.v1"


class Absent:
    """One whose library is not installed."""

    name = "absent.v1"

    def load(self, source: str | None) -> TextEmbedding:
        raise PluginFailed("its library is not installed", hint="pip install it")


class Gone(Absent):
    """The same in the place of the real one."""

    name = "sentence-transformers.v1"


class Broken(Toy):
    """One that fails as soon as it is used."""

    name = "broken.v1"

    def load(self, source: str | None) -> TextEmbedding:
        return Breaks("broken.v1")


class Words:
    """Sums of random directions, one for each word."""

    width = WIDTH

    def __init__(self, id: str) -> None:
        self.id = id
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        rows = np.zeros((len(texts), WIDTH), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                row += direction(word)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        found: NDArray[np.float32] = (rows / np.maximum(lengths, 1e-9)).astype(np.float32)
        return found


class Breaks(Words):
    """Gives what no model may."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), WIDTH), np.nan, np.float32)


@cache
def direction(word: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    found: NDArray[np.float32] = np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)
    return found
