"""Which half of the documents labelers may read, and which scorers may use. Documents are divided, never tokens."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

Half = Literal["labeling", "scoring"]


def half_of(document: str) -> Half:
    """The half a document belongs to, by a hash of its name: the same in every run, store and version."""
    digest = blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8, person=b"featuredb-halves").digest()
    return "labeling" if digest[0] < 128 else "scoring"
