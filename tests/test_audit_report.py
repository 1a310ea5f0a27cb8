"""The audit's page: what it counts, what it shows, and that nothing in it can be more than text."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import featuredb
from featuredb.errors import BadInput, NotFound
from featuredb.plugins import Registry
from featuredb.search.scope import ENOUGH_FIRINGS
from tests.small_ingest import small_store

HOSTILE = "<script>alert(1)</script> | `x` **bold** [link](http://x)"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[featuredb.FeatureDB]:
    toys = Registry([EntryPoint("mislabelled", "tests.toy_checks:Doubting", "featuredb.checks")])
    with featuredb.open(small_store(tmp_path)) as opened:
        monkeypatch.setattr(Registry, "installed", staticmethod(lambda: toys))
        yield opened


def labeled(db: featuredb.FeatureDB) -> list[int]:
    found = db.sql("select feature from feature where n_fires >= $least order by feature", least=ENOUGH_FIRINGS)
    features: list[int] = found["feature"].to_pylist()[:8]
    for feature in features:
        db.add_label(f"top/{feature}", HOSTILE)
    return features


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "href")]


def test_a_page_says_how_many_labels_are_in_doubt_and_why(db: featuredb.FeatureDB, tmp_path: Path) -> None:
    features = labeled(db)
    db.run_audit("top")
    text = db.audit_report(tmp_path / "page.md").read_text("utf-8")
    even, four = [f for f in features if f % 2 == 0], [f for f in features if f % 4 == 0]
    assert f"{len(features) - len(even)} of {len(features)} judged labels" in text
    assert f"| mislabelled | {len(even) - len(four)} |" in text
    assert f"| too-broad | {len(four)} |" in text
    assert f"| 10 | 100% | {len(features)} |" in text
    assert "rather 'x &lt; y'" in text
    assert "False discovery rate 0.001" in text


def test_a_dismissed_doubt_is_none(db: featuredb.FeatureDB, tmp_path: Path) -> None:
    features = labeled(db)
    db.run_audit("top")
    even = [f for f in features if f % 2 == 0]
    db.give_verdict(f"top/{even[0]}", None, "dismissed")
    text = db.audit_report(tmp_path / "page.md").read_text("utf-8")
    assert f"{len(features) - len(even) + 1} of {len(features)} judged labels" in text
    assert "1 findings that a person dismissed are left out" in text


def test_no_text_of_a_store_becomes_markup(db: featuredb.FeatureDB, tmp_path: Path) -> None:
    labeled(db)
    db.run_audit("top")
    page = Tags()
    page.feed(db.audit_report(tmp_path / "page.html").read_text("utf-8"))
    assert "script" not in page.seen
    assert page.loaded == []
    assert {"table", "h1", "div"} <= page.seen
    assert "<script" not in db.audit_report(tmp_path / "page.md").read_text("utf-8")


def test_a_page_is_written_whole_or_not_at_all(db: featuredb.FeatureDB, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no audit of 'top'"):
        db.audit_report(tmp_path / "page.html")
    labeled(db)
    db.run_audit("top")
    with pytest.raises(BadInput, match="ends in '.pdf'"):
        db.audit_report(tmp_path / "page.pdf")
    with pytest.raises(NotFound, match="no folder"):
        db.audit_report(tmp_path / "none" / "page.html")
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(BadInput, match="is there already"):
        db.audit_report(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "mine"
    db.audit_report(tmp_path / "page.html", force=True)
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")
