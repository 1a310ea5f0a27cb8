"""Audits of what is hardly there, and of what is misspelt: said in words, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import featuredb
from featuredb.errors import BadInput, NotFound
from featuredb.plugins import bare
from tests.small_publications import small_source


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A store of what others published: no weights, no panel, nothing of our own."""
    with featuredb.open(tmp_path / "published.fdb", create=True) as db:
        db.ingest_labels(str(small_source(tmp_path / "source")))
    return tmp_path / "published.fdb"


def test_listing_by_a_misspelt_check_is_refused_with_the_near_name(published: Path) -> None:
    with featuredb.open(published) as db:
        with pytest.raises(NotFound, match="no check plugin called 'duplicat'") as error:
            db.findings(checks=["duplicat"])
        assert "duplicate" in str(error.value.hint)
        assert len(db.findings(checks=["duplicate", "dead.v1"])) == 0


def test_token_bound_says_that_a_publication_has_no_panel_text(published: Path) -> None:
    with featuredb.open(published) as db, pytest.raises(BadInput, match="no panel text"):
        db.run_audit(checks=["token-bound"])


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_cannot_be_kept_or_drawn_from_is_refused_before_anything_runs(published: Path, seed: int) -> None:
    with featuredb.open(published) as db:
        with pytest.raises(BadInput, match=f"{seed} is no seed"):
            db.run_audit(checks=["dense"], seed=seed)
        assert len(db.findings(all_features=True)) == 0


def test_features_that_are_published_without_counts_are_not_called_dead(published: Path) -> None:
    with featuredb.open(published) as db:
        with pytest.raises(BadInput, match="is not known"):
            db.run_audit(checks=["dead"])
        assert len(db.findings(checks=["dead"])) == 0


def test_a_whole_audit_of_a_publication_says_of_each_check_why_it_could_not_judge(published: Path) -> None:
    with featuredb.open(published) as db:
        rows = {bare(row.check): row for row in db.run_audit()}
        assert sum(row.flagged for row in rows.values() if row.check.startswith(("dead", "under-sampled"))) == 0
        for check in ("dead", "duplicate", "split", "manifold", "token-bound", "under-sampled"):
            assert rows[check].reason, check
