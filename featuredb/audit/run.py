"""An audit: checks run over a dictionary one after the other, and what each found is kept when it has ended.

Rule: which checks, in which order, and what they may answer. What a finding means is in the check.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from featuredb.audit.checks import chosen_checks
from featuredb.audit.findings import keep_findings
from featuredb.audit.gather import open_request
from featuredb.audit.requests import AuditRequest, Judged
from featuredb.errors import BadInput, Interrupted, PluginFailed
from featuredb.labels.make import check_options, check_seed
from featuredb.plugins import Check, bare, guarded_iter
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.rows import plain
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader
from featuredb.store.store import Store


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """What is to be audited, and by which checks."""

    dictionary: str
    checks: tuple[str, ...] = ()
    """Names of plugins, or of findings that one of them makes; all that are installed where there are none."""
    features: tuple[int, ...] | None = None
    """None: all."""
    source: str | None = None
    """Judge the labels of this labeler, where otherwise the shown ones are judged."""
    embedder: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Audited:
    """What one check did."""

    check: str
    n_judged: int
    n_flagged: int
    reason: str | None = None
    """Why it judged nothing, where it could not."""


def audit(store: Store, reader: SegmentReader, plan: AuditPlan, progress: ProgressReport = silent) -> list[Audited]:
    """Runs the checks; each one's findings are kept as soon as it has ended, so that an interrupted audit keeps those.

    A check that cannot be run on this dictionary says why and the others go on, unless it was asked for by name. Where
    one breaks, the others go on as well, and PluginFailed comes at the end.
    Raises NotFound for an unknown dictionary, feature, check, labeler or embedder, BadInput for an option that no check
    has or a seed that is none.
    """
    check_seed(plan.seed)
    checks = chosen_checks(plan.checks)
    for name in plan.options:
        if not any(name in check.options for check in checks):
            check_options(checks[0].name, sorted({o for check in checks for o in check.options}), {name: ""})
    done, broken = list[Audited](), list[PluginFailed]()
    with open_request(
        store,
        reader,
        plan.dictionary,
        features=plan.features,
        source=plan.source,
        embedder=plan.embedder,
        seed=plan.seed,
        progress=progress,
    ) as request:
        for check in checks:
            own = {name: value for name, value in plan.options.items() if name in check.options}
            try:
                done.append(_run(store, check, replace(request, options=own), plan))
            except PluginFailed as error:
                broken.append(error)
            except KeyboardInterrupt as error:
                left = [bare(each.name) for each in checks[checks.index(check) :]]
                kept = f"; what {len(done)} checks found is kept, left are {', '.join(left)}" if done else ""
                raise Interrupted(f"stopped in {bare(check.name)}{kept}") from error
    if broken:
        hint = broken[0].hint or ("what the other checks found is kept" if done else None)
        raise PluginFailed("; ".join(error.message for error in broken), hint=hint)
    return done


def _run(store: Store, check: Check, request: AuditRequest, plan: AuditPlan) -> Audited:
    said = bare(check.name)
    asked = set(request.features)
    judged: dict[int, tuple[str, Judged]] = {}
    request.progress(Progress(f"audit ({said})", 0, len(asked), "features"))
    try:
        for one in guarded_iter(check.name, iter(check.audit(request))):
            judged[one.feature] = _checked(check, one, asked, judged)
            if len(judged) % 64 == 0 and len(judged) < len(asked):
                request.progress(Progress(f"audit ({said})", len(judged), len(asked), "features"))
    except BadInput as error:
        if plan.checks:
            raise
        return Audited(check.name, 0, 0, error.message)
    request.progress(Progress(f"audit ({said})", len(asked), len(asked), "features"))
    with store.session() as session:
        row = get_dictionary(session, plan.dictionary)
        labels = {request.labels[feature].label_id for feature in asked & request.labels.keys()}
        keep_findings(session, row.id, check.name, list(judged.values()), sorted(asked), labels, plan.seed)
    return Audited(check.name, len(judged), sum(one.flagged for _, one in judged.values()))


def _checked(check: Check, one: Judged, asked: set[int], judged: Mapping[int, object]) -> tuple[str, Judged]:
    """The finding's name and the finding, with evidence as JSON can say it. Raises PluginFailed for what is none."""
    name = one.name or check.findings[0]
    if one.feature not in asked or one.feature in judged:
        again = "twice" if one.feature in judged else "without being asked"
        raise PluginFailed(f"check {check.name!r} answered for feature {one.feature} {again}")
    if name not in check.findings:
        raise PluginFailed(f"check {check.name!r} found {name!r}, which is none of its findings")
    if not (math.isfinite(one.score) and 0 <= one.score <= 1):
        raise PluginFailed(f"check {check.name!r} gave {one.score} for feature {one.feature}, which is no score")
    return name, replace(one, score=float(one.score), flagged=bool(one.flagged), evidence=plain(one.evidence))
