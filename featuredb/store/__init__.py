"""The folder on disk: a catalog that changes, and segments and vectors that never do."""

from __future__ import annotations

from featuredb.store.layout import Layout
from featuredb.store.refs import FeatureRef
from featuredb.store.store import Store

__all__ = ["FeatureRef", "Layout", "Store"]
