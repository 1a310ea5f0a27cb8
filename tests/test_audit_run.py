"""Audits: which checks run, what is kept of their findings, which of them count, and what people say of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, event

import featuredb
from featuredb.audit import findings
from featuredb.audit.chance import benjamini_hochberg, empirical_p
from featuredb.cli.main import main
from featuredb.errors import BadInput, Interrupted, NotFound, PluginFailed
from featuredb.plugins import Registry
from featuredb.store.refs import get_dictionary
from tests.small_ingest import N_FEATURES, small_store, texts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def db(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[featuredb.FeatureDB]:
    toys = Registry(
        [
            EntryPoint("suspicious", "tests.toy_checks:Suspicious", "featuredb.checks"),
            EntryPoint("describing", "tests.toy_checks:Describing", "featuredb.checks"),
        ]
    )
    monkeypatch.setattr(Registry, "installed", staticmethod(lambda: toys))
    shutil.copytree(made, tmp_path / "small.fdb")
    with featuredb.open(tmp_path / "small.fdb") as opened:
        yield opened


def names(rows: object) -> list[tuple[int, str]]:
    assert isinstance(rows, featuredb.rows.Rows)
    return [(row.index, row.check) for row in rows]


def test_an_audit_keeps_what_is_flagged_and_the_score_of_everything(db: featuredb.FeatureDB) -> None:
    found = db.audit("top", ["suspicious"], options={"flag": "3", "very": "5"})
    assert names(found) == [(5, "very-suspicious"), (3, "suspicious")]
    first = found[0]
    assert (first.score, first.q, first.p, first.suggestion) == (0.05, 0.01, None, "look again")
    assert first.evidence == {"examples": [0, 1], "others": ["top/1", "top/2"], "figure": 0.5}
    assert len(db.findings("top", all_features=True)) == N_FEATURES
    assert names(db.findings("top")) == names(found)


def test_faults_come_before_what_only_describes(db: featuredb.FeatureDB) -> None:
    found = db.audit("top", options={"flag": "3"})
    assert names(found)[0] == (3, "suspicious")
    assert {row.check for row in found[1:]} == {"describing"}


def test_the_next_audit_replaces_what_the_same_check_found(db: featuredb.FeatureDB) -> None:
    db.audit("top", ["suspicious"], options={"flag": "3"})
    assert names(db.audit("top", ["suspicious"], options={"flag": "4"})) == [(4, "suspicious")]
    db.audit("top", ["suspicious"], ["top/6", "7"], options={"flag": "6"})
    assert names(db.findings("top")) == [(6, "suspicious"), (4, "suspicious")]


def test_findings_are_flags_in_every_answer(db: featuredb.FeatureDB) -> None:
    fired = db.activate(texts(1)[0], limit=3)
    feature = fired[0].index
    db.audit("top", ["suspicious"], options={"flag": str(feature)})
    card = db.feature(f"top/{feature}")
    assert "suspicious" in card.flags
    assert [finding.check for finding in card.findings] == ["suspicious"]
    assert [one.flags for one in db.activate(texts(1)[0], limit=3)][0][-1:] == ("suspicious",)
    (tokens,) = db.activate_tokens(texts(1)[0], limit=3)
    assert "suspicious" in tokens.fired[0].flags
    near = db.similar(f"top/{(feature + 1) % N_FEATURES}", limit=N_FEATURES, all_features=True)
    assert [row.index for row in near if "suspicious" in row.flags] == [feature]
    db.add_label(f"top/{feature}", "a word")
    assert "suspicious" in db.search("word", ways=["label"])[0].flags
    assert [row.index for row in db.search(flags=["suspicious"], all_features=True)] == [feature]
    others = db.search(without=["suspicious"], all_features=True, limit=N_FEATURES)
    assert feature not in [row.index for row in others]


def about_findings(work: Callable[[], object]) -> list[str]:
    """The statements about findings, and verdicts on them, that the catalog is asked."""
    seen: list[str] = []

    def note(*given: Any) -> None:
        seen.append(given[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return [one for one in seen if re.search(r"\b(finding|verdict)\b", one)]


def test_answers_ask_once_what_was_found_and_never_read_evidence(db: featuredb.FeatureDB) -> None:
    text = texts(1)[0]
    feature = db.activate(text, limit=1)[0].feature
    db.add_label(feature, "a word")
    answers: list[Callable[[], object]] = [
        lambda: db.activate(text),
        lambda: db.activate_tokens(text),
        lambda: db.search("word", ways=["label"], all_features=True),
        lambda: db.similar(feature, all_features=True),
    ]
    assert [len(about_findings(answers[0])) for _ in range(2)] == [1, 0]
    assert all(len(about_findings(answer)) <= 1 for answer in answers)
    assert len(about_findings(lambda: db.feature(feature))) == 1
    db.run_audit("top")
    for answer in answers:
        db.add_label(feature, "another word")  # what was read is forgotten
        asked = about_findings(answer)
        assert len(asked) == 3
        assert not any("evidence" in one for one in asked)
        assert about_findings(answer) == []
    db.run_audit("top", options={"flag": feature.partition("/")[2]})
    assert "suspicious" in db.activate(text, features=[feature])[0].flags
    db.give_verdict(feature, "suspicious", "dismissed")
    assert "suspicious" not in db.activate(text, features=[feature])[0].flags


def test_flags_of_many_features_are_those_of_a_few(db: featuredb.FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    db.add_label("top/3", "first")
    db.run_audit("top", options={"flag": "3", "very": "5", "labels": "yes"})
    db.give_verdict("top/7", "describing", "dismissed")
    with db.store.reading() as session:
        number = get_dictionary(session, "top").id
        whole = findings.flags_of(session, number, range(N_FEATURES))
        assert whole[3] == ("describing", "suspicious")
        assert 7 not in whole
        monkeypatch.setattr(findings, "AT_ONCE", 5)
        assert findings.flags_of(session, number, range(N_FEATURES)) == whole
        monkeypatch.setattr(findings, "MANY", 1)
        assert findings.flags_of(session, number, range(N_FEATURES)) == whole
        some = {feature: names for feature, names in whole.items() if feature in (3, 5, 9)}
        assert findings.flags_of(session, number, [3, 5, 9]) == some
        found = findings.current_findings(session, number, [3, 5])
        assert [(row.feature_index, row.name) for row, _ in found if row.name != "describing"] == [
            (3, "suspicious"),
            (5, "very-suspicious"),
        ]


def test_a_flag_that_no_check_gives_is_refused(db: featuredb.FeatureDB) -> None:
    with pytest.raises(BadInput, match="no flag is called 'suspicius'") as error:
        db.search(flags=["suspicius"])
    assert "suspicious" in str(error.value.hint)


def test_a_finding_of_a_label_counts_only_while_that_label_is_shown(db: featuredb.FeatureDB) -> None:
    db.add_label("top/3", "first")
    found = db.audit("top", ["suspicious"], options={"flag": "3", "labels": "yes"})
    assert [row.judged for row in found] == ["first"]
    second = db.add_label("top/3", "second")
    assert "suspicious" not in db.feature("top/3").flags
    assert len(db.findings("top", features=["3"])) == 0
    db.remove_labels("top/3", second.id)
    assert "suspicious" in db.feature("top/3").flags
    db.remove_labels("top/3", every=True)
    assert len(db.findings("top", features=["3"], all_features=True)) == 0


def test_labels_of_a_source_are_judged_beside_those_that_are_shown(db: featuredb.FeatureDB, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("feature,text\ntop/3,imported\n")
    db.ingest_labels(str(tmp_path / "labels.csv"))
    db.add_label("top/3", "by hand")
    options = {"flag": "3", "labels": "yes"}
    assert [row.judged for row in db.audit("top", ["suspicious"], options=options)] == ["by hand"]
    assert [row.judged for row in db.audit("top", ["suspicious"], options=options, source="file")] == ["imported"]
    assert [row.judged for row in db.findings("top")] == ["by hand"]
    with pytest.raises(NotFound, match="no label is by 'nobody'"):
        db.audit("top", ["suspicious"], source="nobody")


def test_a_dismissed_finding_is_no_flag_and_stays_dismissed(db: featuredb.FeatureDB) -> None:
    db.audit("top", ["suspicious"], options={"flag": "3"})
    (row,) = db.give_verdict("top/3", "suspicious", "dismissed", author="ada", note="by design")
    assert (row.verdict, row.note) == ("dismissed", "by design")
    assert "suspicious" not in db.feature("top/3").flags
    db.audit("top", ["suspicious"], options={"flag": "3"})
    assert "suspicious" not in db.feature("top/3").flags
    assert [one.verdict for one in db.findings("top")] == ["dismissed"]
    db.give_verdict("top/3", None, "confirmed")
    assert "suspicious" in db.feature("top/3").flags


def test_a_verdict_on_nothing_is_refused(db: featuredb.FeatureDB) -> None:
    with pytest.raises(NotFound, match="top/3 has no finding"):
        db.give_verdict("top/3")
    db.audit("top", ["suspicious"], options={"flag": "3"})
    with pytest.raises(NotFound, match="no finding 'suspicius'"):
        db.give_verdict("top/3", "suspicius")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"break": "2"}, "the toy broke"),
        ({"twice": "2"}, "answered for feature 2 twice"),
        ({"score": "1.5"}, "which is no score"),
        ({"score": "nan"}, "which is no score"),
        ({"unknown": "odd"}, "found 'odd'"),
    ],
)
def test_a_check_that_breaks_leaves_earlier_findings(
    db: featuredb.FeatureDB, options: dict[str, str], said: str
) -> None:
    db.audit("top", ["suspicious"], options={"flag": "3"})
    with pytest.raises(PluginFailed, match=said):
        db.audit("top", ["suspicious"], options=options)
    assert names(db.findings("top")) == [(3, "suspicious")]


def test_a_check_that_cannot_judge_says_why_and_the_others_go_on(db: featuredb.FeatureDB) -> None:
    done = {row.check: row for row in db.run_audit("top", options={"refuse": "yes"})}
    assert done["suspicious.v1"].reason == "there is nothing to look at"
    assert done["describing.v1"].flagged == N_FEATURES
    with pytest.raises(BadInput, match="there is nothing to look at"):
        db.run_audit("top", ["suspicious"], options={"refuse": "yes"})


def test_where_one_check_breaks_the_others_go_on_and_the_status_says_so(db: featuredb.FeatureDB) -> None:
    with pytest.raises(PluginFailed, match="the toy broke") as error:
        db.run_audit("top", options={"break": "2"})
    assert error.value.hint == "what the other checks found is kept"
    assert {row.check for row in db.findings("top")} == {"describing"}


def test_ctrl_c_keeps_what_checks_found_and_says_which_are_left(db: featuredb.FeatureDB) -> None:
    with pytest.raises(Interrupted, match="stopped in suspicious; what 1 checks found is kept, left are suspicious"):
        db.run_audit("top", options={"stop": "2"})
    assert {row.check for row in db.findings("top")} == {"describing"}


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"dictionary": "tpo"}, NotFound, "no dictionary called 'tpo'"),
        ({"checks": ["suspicius"]}, NotFound, "no check plugin called"),
        ({"features": ["top/99999"]}, NotFound, "no feature 99999"),
        ({"features": ["top/1", "other/1"]}, BadInput, "are 2 dictionaries"),
        ({"features": ["one"]}, BadInput, "does not name a feature"),
        ({"options": {"flug": "1"}}, BadInput, "no option 'flug'"),
        ({"embedder": "nope"}, NotFound, "no embedder plugin called 'nope'"),
    ],
)
def test_what_is_not_there_is_said(
    db: featuredb.FeatureDB, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        db.run_audit(**arguments)  # type: ignore[arg-type]


def test_the_command_line_audits_lists_explains_and_keeps_verdicts(db: featuredb.FeatureDB) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, "--db", str(db.path)])
        assert done.exit_code == 0, done.output
        return done.output

    said = run("audit", "--check", "suspicious", "--option", "flag=3")
    assert "suspicious: 1 of" in said
    assert "top/3" in said
    (row,) = json.loads(run("audit", "ls", "--json"))["rows"]
    assert (row["feature"], row["check"], row["flagged"]) == ("top/3", "suspicious", True)
    said = run("audit", "show", "top/3")
    assert "Flags the features that `flag` names" in said
    assert "look again" in said
    assert "top/1, top/2" in said
    assert "dismissed" in run("audit", "ack", "top/3", "--dismiss", "--note", "fine")
    said = run("audit", "show", "top/4")
    assert "no audit has found anything" in said


def test_benjamini_hochberg_agrees_with_scipy_and_leaves_out_what_was_not_tested() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).random(200) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p))
    with_gap = np.insert(p, 7, np.nan)
    found = benjamini_hochberg(with_gap)
    assert np.isnan(found[7])
    np.testing.assert_allclose(np.delete(found, 7), false_discovery_control(p))
    assert len(benjamini_hochberg([])) == 0


def test_a_p_value_from_draws_is_never_zero_and_counts_ties() -> None:
    assert empirical_p(2.0, [1.0, 2.0, 3.0]) == 3 / 4
    assert empirical_p(9.0, np.zeros(99)) == 0.01


def test_evidence_is_shown_with_the_features_own_activations(db: featuredb.FeatureDB) -> None:
    db.audit("top", ["suspicious"], options={"flag": "3"})
    (card,) = db.explain("top/3")
    firings = db.sql("select context, position, activation from panel where feature = 3 and context in (0, 1)")
    strongest: dict[int, tuple[float, int]] = {}
    for row in firings.to_pylist():
        strongest[row["context"]] = max(strongest.get(row["context"], (0.0, 0)), (row["activation"], row["position"]))
    assert card.examples
    for example in card.examples:
        if example.context not in strongest:
            continue  # a kept example of a context that is not on the panel
        activation, position = strongest[example.context]
        assert example.position == position
        assert example.activation == pytest.approx(activation)
        assert example.activations[example.peak] == pytest.approx(activation, rel=0.01)
