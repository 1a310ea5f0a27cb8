"""featuredb: a database of what the features of neural networks do. Names here load what they need when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.database import FeatureDB, open
    from featuredb.dictionary import Dictionary, load_dictionary

__all__ = ["Dictionary", "FeatureDB", "load_dictionary", "open"]

_HOMES = {
    "Dictionary": "featuredb.dictionary",
    "FeatureDB": "featuredb.database",
    "load_dictionary": "featuredb.dictionary",
    "open": "featuredb.database",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Read late: importlib.metadata takes longer to import than everything else --help needs.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("featuredb")
        except PackageNotFoundError:
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'featuredb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
