"""What every test runs under: no network, no colour, and no deadlines, which a busy machine would miss."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for name in ("FORCE_COLOR", "COLUMNS", "FEATUREDB_DB", "FEATUREDB_TRACEBACK", "FEATUREDB_AUTHOR"):
    os.environ.pop(name, None)

settings.register_profile("featuredb", deadline=None, max_examples=50)
settings.load_profile("featuredb")
