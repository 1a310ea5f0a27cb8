"""Says which features make one thing of more than one dimension together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.manifold import GroupFound
    from featuredb.audit.requests import AuditRequest, Judged

N_EXAMPLES = 8


class Manifold:
    """A group of features whose directions lie in one plane far more evenly than chance has it, such as the days of the
    week on a ring, and whose sum there is neither two things apart nor a mixture of lines.

    A description of a group, and no fault of its members: they are best read together.
    """

    name = "manifold.v1"
    findings: tuple[str, ...] = ("manifold",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.manifold import find_groups
        from featuredb.audit.requests import Judged
        from featuredb.search.scope import ENOUGH_FIRINGS

        enough = (request.everything.n_fires >= ENOUGH_FIRINGS).nonzero()[0]
        group_of = {
            feature: group
            for group in find_groups(request.panel, request.directions, enough, request.seed)
            for feature in group.members.tolist()
        }
        for feature in request.features:
            group = group_of.get(feature)
            if group is None:
                continue
            tested = group.p == group.p
            yield Judged(
                feature,
                group.score,
                flagged=group.flagged,
                p=group.p if tested else None,
                q=group.q if tested else None,
                evidence=_evidence(request, group, feature),
                suggestion=_suggestion(group, feature) if group.flagged else None,
            )


def _evidence(request: AuditRequest, group: GroupFound, feature: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "group": int(group.members[0]),
        "others": [other for other in group.members.tolist() if other != feature],
        "tokens": group.n_tokens,
        "separability": group.separability,
        "mixture": group.mixture,
        "plane": [group.plane, group.plane + 1],
        "flatness": group.flatness,
    }
    if group.by_chance == group.by_chance:
        found["flatness_by_chance"] = group.by_chance
    if group.flagged:
        found["examples"] = _contexts(request, group)
    return found


def _contexts(request: AuditRequest, group: GroupFound) -> list[int]:
    """Where members fire most strongly, one context each."""
    passages, found = request.everything.passages, dict[int, None]()
    for member in group.members.tolist():
        _, activation = request.panel.of(member)
        if len(activation):
            place = int(request.panel.places(member)[int(activation.argmax())])
            piece = int(passages.start.searchsorted(place, side="right")) - 1
            found[int(passages.context[piece])] = None
    return list(found)[:N_EXAMPLES]


def _suggestion(group: GroupFound, feature: int) -> str:
    others = ", ".join(str(other) for other in group.members.tolist() if other != feature)
    return f"Read it together with features {others}: they share one plane, and one label may fit them all."
