"""What every check must keep. A check's own tests subclass CheckContract and say what is to be audited."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from featuredb.audit.requests import AuditRequest, Judged
from featuredb.plugins import Check, Registry


class CheckContract:
    """Subclass it, set `plugin_name`, and give a fixture `audited`, a request whose dictionary has labels:

    class TestLonely(CheckContract):
        plugin_name = "lonely"

        @pytest.fixture
        def audited(self) -> AuditRequest: ...  # of featuredb.audit.gather.open_request, or planted
    """

    plugin_name: str
    """Its entry point's name."""
    compares = False
    """Whether what it makes of a feature depends on which others are asked for."""

    @pytest.fixture
    def registry(self) -> Registry:
        """The plugins that are installed; override it to test one that is not."""
        return Registry.installed()

    @pytest.fixture
    def plugin(self, registry: Registry) -> Check:
        return registry.check(self.plugin_name)

    @pytest.fixture
    def found(self, plugin: Check, audited: AuditRequest) -> list[Judged]:
        return list(plugin.audit(audited))

    def test_name_is_the_entry_points_with_a_version(self, plugin: Check) -> None:
        assert re.fullmatch(re.escape(self.plugin_name) + r"\.v[1-9]\d*", plugin.name)

    def test_its_docstring_says_what_its_findings_mean(self, plugin: Check) -> None:
        assert (type(plugin).__doc__ or "").strip().splitlines()[0].strip()

    def test_its_findings_have_names_that_can_be_flags(self, plugin: Check) -> None:
        assert plugin.findings
        assert all(re.fullmatch(r"[a-z][a-z-]*", name) for name in plugin.findings)

    def test_each_feature_is_answered_for_once_and_none_unasked(
        self, found: list[Judged], audited: AuditRequest
    ) -> None:
        features = [one.feature for one in found]
        assert len(set(features)) == len(features)
        assert set(features) <= set(audited.features)

    def test_answers_are_as_their_record_says(self, plugin: Check, found: list[Judged]) -> None:
        for one in found:
            assert 0 <= one.score <= 1
            assert one.name is None or one.name in plugin.findings
            assert one.p is None or 0 <= one.p <= 1
            assert one.q is None or 0 <= one.q <= 1
            assert not one.flagged or one.evidence, "a flag without evidence"

    def test_evidence_can_be_kept_as_json_and_names_features_that_are_there(
        self, found: list[Judged], audited: AuditRequest
    ) -> None:
        from featuredb.rows import plain

        for one in found:
            evidence = plain(one.evidence)
            json.dumps(evidence)
            assert all(0 <= other < audited.everything.n_features for other in evidence.get("others", ()))

    def test_labels_it_speaks_of_are_those_that_were_to_be_judged(
        self, found: list[Judged], audited: AuditRequest
    ) -> None:
        for one in found:
            assert one.label_id is None or one.label_id == audited.labels[one.feature].label_id

    def test_the_same_request_is_answered_the_same(
        self, plugin: Check, found: list[Judged], audited: AuditRequest
    ) -> None:
        again = {one.feature: one for one in plugin.audit(audited)}
        assert {one.feature: (one.score, one.flagged) for one in found} == {
            feature: (one.score, one.flagged) for feature, one in again.items()
        }

    def test_a_score_is_the_features_own(self, plugin: Check, found: list[Judged], audited: AuditRequest) -> None:
        if self.compares:
            pytest.skip("compares the features that are asked for")
        some = [one.feature for one in found][::3]
        alone = {one.feature: one.score for one in plugin.audit(replace(audited, features=some))}
        assert alone == pytest.approx({one.feature: one.score for one in found if one.feature in set(some)})

    def test_nothing_to_audit_is_no_error(self, plugin: Check, audited: AuditRequest) -> None:
        assert list(plugin.audit(replace(audited, features=[]))) == []

    def test_a_dictionary_without_labels_is_no_error(self, plugin: Check, audited: AuditRequest) -> None:
        for one in plugin.audit(replace(audited, labels={})):
            assert one.label_id is None
