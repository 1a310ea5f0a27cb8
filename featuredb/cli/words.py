"""What tables and cards say of a feature in the same words. Text only: nothing here knows a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featuredb.visible import visible

if TYPE_CHECKING:
    from featuredb.records import OfFeature


def with_flags(one: OfFeature) -> str:
    """A feature's label, or -, and after it what is to be known of the feature."""
    flags = f"  ⚑ {', '.join(one.flags)}" if one.flags else ""
    return visible(f"{one.label or '-'}{flags}")
