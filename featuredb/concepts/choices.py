"""The words in which a concept is asked for. Names only, so that the command line can offer them without numpy."""

from __future__ import annotations

import re
from typing import Literal, get_args

from featuredb.errors import BadInput

MethodName = Literal["mean-difference", "pca", "probe", "lda"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)

Token = Literal["last", "mean", "all"]
"""Which tokens of a text speak for it: its last one, the mean of all, or each by itself."""
TOKENS: tuple[Token, ...] = get_args(Token)

READ_FORMATS = ("npy", "npz", "safetensors", "pt", "gguf")
WRITTEN_FORMATS = ("gguf", "npy", "npz", "safetensors")

BLOCKS, BLOCK_INPUTS, HIDDEN_STATES, CONCEPTS = "blocks", "block-inputs", "hidden-states", "concepts"
ROWS_ARE = (BLOCKS, BLOCK_INPUTS, HIDDEN_STATES, CONCEPTS)
"""What the rows of a file, or the numbers in its names, may be."""

_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def parse_layers(text: str) -> tuple[int, ...]:
    """The layers that "8-20" or "3,5,7-9" names, in order, each once. Raises BadInput."""
    layers: set[int] = set()
    for part in text.replace(" ", "").split(","):
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first or last - first > 10_000:
            raise BadInput(f"{text!r} names no layers", hint="write them as 8-20 or 3,5,7-9")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))
