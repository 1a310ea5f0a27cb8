"""Every check that is shipped keeps the contract of its kind, on a small store with labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import featuredb
from featuredb.audit.gather import open_request
from featuredb.audit.requests import AuditRequest
from featuredb.plugins import Registry, TextEmbedding
from featuredb.store.segments import SegmentReader
from featuredb.testing.checks import CheckContract
from tests.small_ingest import small_store
from tests.toy_embedder import Words


class ToyTexts:
    """Embeds texts by the words in them."""

    embedder: TextEmbedding = Words("toy.v1:words")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed(texts)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditRequest]:
    with featuredb.open(small_store(tmp_path_factory.mktemp("checks"), 120)) as db:
        db.label("top")
        for feature in range(0, 40, 3):
            db.add_label(f"top/{feature}", "words in capital letters")
        with open_request(db.store, SegmentReader(db.store), "top") as opened:
            yield replace(opened, texts=ToyTexts())


def test_every_shipped_check_is_tested_here() -> None:
    tested = {cls.plugin_name for cls in CheckContract.__subclasses__() if cls.__module__ == __name__}
    assert tested == set(Registry.installed().names("checks"))


class TestAbsorbed(CheckContract):
    plugin_name = "absorbed"


class TestAmbiguous(CheckContract):
    plugin_name = "ambiguous"


class TestComplexity(CheckContract):
    plugin_name = "complexity"


class TestDead(CheckContract):
    plugin_name = "dead"


class TestDense(CheckContract):
    plugin_name = "dense"


class TestDrifting(CheckContract):
    plugin_name = "drifting"


class TestDuplicate(CheckContract):
    plugin_name = "duplicate"


class TestManifold(CheckContract):
    plugin_name = "manifold"


class TestMislabelled(CheckContract):
    plugin_name = "mislabelled"


class TestPolysemantic(CheckContract):
    plugin_name = "polysemantic"


class TestPositionBound(CheckContract):
    plugin_name = "position-bound"


class TestSplit(CheckContract):
    plugin_name = "split"


class TestTokenBound(CheckContract):
    plugin_name = "token-bound"


class TestUnderSampled(CheckContract):
    plugin_name = "under-sampled"
