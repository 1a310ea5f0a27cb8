"""The checks that are installed, by their own names and by those of what they find."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence

from featuredb.errors import BadInput, nearest
from featuredb.plugins import Check, Registry

SEVEREST = ("mislabelled", "too-broad", "too-narrow", "polysemantic", "absorbed", "drifting", "split", "duplicate")
"""Findings that come first, in this order: those that make a label mislead most."""


def severity(name: str, described: Collection[str]) -> int:
    """Where findings of that name come among others: 0 first. described: those that are no fault."""
    if name in SEVEREST:
        return SEVEREST.index(name)
    return len(SEVEREST) + (name in described)


def chosen_checks(names: Sequence[str]) -> list[Check]:
    """The checks of those names, or that make findings of those names; all, by name, where there are none."""
    registry = Registry.installed()
    working: list[Check] = list(registry.working("checks"))
    if not names:
        return working
    chosen = []
    for name in dict.fromkeys(names):
        by_finding = [check for check in working if name in check.findings]
        chosen.append(by_finding[0] if by_finding else registry.check(name))
    return list({check.name: check for check in chosen}.values())


def descriptions() -> frozenset[str]:
    """The findings that describe a feature and are no fault of it."""
    checks: list[Check] = list(Registry.installed().working("checks"))
    return frozenset(name for check in checks if getattr(check, "describes", False) for name in check.findings)


def finding_names() -> tuple[str, ...]:
    """Every finding that an installed check may make, sorted."""
    return tuple(sorted({name for check in Registry.installed().working("checks") for name in check.findings}))


def check_flag(name: str, others: Sequence[str]) -> str:
    """The name of a flag that some check, or a feature's figures (`others`), may give it. Raises BadInput."""
    known = (*others, *(found for found in finding_names() if found not in others))
    if name not in known:
        hint = nearest(name, known, otherwise=f"there are {', '.join(known)}")
        raise BadInput(f"no flag is called {name!r}", hint=hint)
    return name


def explained(name: str) -> str:
    """What a finding means: the first paragraph of its check's docstring; empty where the check is not installed."""
    for check in Registry.installed().working("checks"):
        if name in check.findings or name == check.name:
            said = inspect.getdoc(check) or ""
            return " ".join(said.split("\n\n")[0].split())
    return ""
