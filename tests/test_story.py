"""What featuredb is for: a concept finds a feature, the audit says that its label is wrong, and what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

import featuredb
from featuredb.concepts.request import ConceptRequest

CAPITALS = (
    "THE FILE COULD NOT BE OPENED FOR WRITING",
    "RAISE AN ERROR IF THE NAME IS MISSING",
    "PLEASE READ THE DOCUMENTATION CAREFULLY",
    "WARNING: DO NOT EDIT THIS LINE BY HAND",
    "EVERY TEST HAS TO PASS BEFORE A RELEASE",
    "THE SERVER CLOSED THE CONNECTION EARLY",
    "RETURN THE FIRST VALUE THAT WAS FOUND",
    "NO SUCH MODULE IS INSTALLED HERE",
    "COPYRIGHT AND LICENSE OF THIS PROGRAM",
    "IMPORTANT: KEEP A COPY OF THE DATABASE",
)
WRONG = "Internet snippets and excerpts"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from featuredb.demo import run_demo

    path = tmp_path_factory.mktemp("story") / "demo.fdb"
    run_demo(path, train=False, progress=lambda _: None, n_tokens=200_000)
    return path


def test_the_wrong_label_of_the_capitals_feature_is_found_and_a_better_one_named(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "caps.txt").write_text("\n".join(CAPITALS), encoding="utf-8")
    (tmp_path / "lower.txt").write_text("\n".join(CAPITALS).lower(), encoding="utf-8")
    with featuredb.open(demo) as db:
        positive, negative = (str(tmp_path / "caps.txt"),), (str(tmp_path / "lower.txt"),)
        db.concepts.add(ConceptRequest("caps", positive=positive, negative=negative, method="lda", token="mean"))
        best = db.correlate("caps", limit=1)[0].feature
        (tmp_path / "others.csv").write_text(f"feature,label\n{best},{WRONG}\n", encoding="utf-8")
        db.ingest_labels(str(tmp_path / "others.csv"))
        assert db.correlate("caps", limit=1)[0].label == WRONG

        (finding,) = db.audit(features=[best], checks=["mislabelled"])
        assert (finding.check, finding.judged) == ("mislabelled", WRONG)
        assert "capital" in (finding.suggestion or "")
        assert finding.q is not None
        assert finding.q <= 0.05
        (card,) = db.explain(best)
        assert len(card.examples) >= 3
        assert all(any(char.isupper() for char in one.tokens[one.peak]) for one in card.examples)
        assert "mislabelled" in db.correlate("caps", limit=1)[0].flags

        db.add_label(best, "words in capital letters")
        assert len(db.audit(features=[best], checks=["mislabelled"])) == 0
        assert "mislabelled" not in db.correlate("caps", limit=1)[0].flags
