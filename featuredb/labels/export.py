"""Writing a dictionary in somebody else's format: an exporter fills a folder beside, which is then moved into place.

Rule: nobody ever sees half an export, and nothing is deleted that an export did not write.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from featuredb.errors import BadInput, PluginFailed
from featuredb.labels.publication import ExportRequest
from featuredb.plugins import Exporter, Registry, guarded
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.store.engine import disk_errors
from featuredb.store.files import sync_file
from featuredb.store.refs import get_dictionary

if TYPE_CHECKING:
    from featuredb.database import FeatureDB

MARK = "featuredb-export.json"
"""Lies in every exported folder and says what it is; only a folder that has it is ever overwritten."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    path: Path
    exporter: str
    dictionary: str
    n_features: int
    n_files: int
    n_bytes: int


def export(
    db: FeatureDB,
    dictionary: str,
    exporter: str,
    out: str | os.PathLike[str],
    *,
    n_examples: int = 24,
    labels_only: bool = False,
    force: bool = False,
    registry: Registry | None = None,
    progress: ProgressReport = silent,
) -> Exported:
    """Fills a new folder with a dictionary in an exporter's format; it appears whole or not at all.

    n_examples: of each kind. labels_only: neither figures nor examples. force: replace what an earlier export wrote.
    Raises NotFound for an unknown dictionary or exporter, BadInput where something lies in the way, StoreUnusable on a
    full disk.
    """
    if n_examples < 0:
        raise BadInput(f"cannot write {n_examples} examples", hint="at least 0")
    plugin = (registry or Registry.installed()).exporter(exporter)
    with db.store.reading() as session:
        get_dictionary(session, dictionary)
    target = _target(db, out, force=force)
    request = ExportRequest(db, dictionary, n_examples, labels_only)
    progress(Progress("export", 0, None, "features"))
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}-{secrets.token_hex(6)}.new")
        unfinished.mkdir()
        try:
            exported = _fill(plugin, request, unfinished, target)
            _replace(unfinished, target, force=force)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    progress(Progress("export", exported.n_features, exported.n_features, "features"))
    return exported


def _target(db: FeatureDB, out: str | os.PathLike[str], *, force: bool) -> Path:
    target = Path(out).expanduser().resolve()
    store = db.store.path
    if target == store or store in target.parents or target in store.parents:
        raise BadInput(f"{target} and the store {store} would lie in one another", hint="name another folder")
    _check_free(target, force=force)
    return target


def _check_free(target: Path, *, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if not (target / MARK).is_file():
        raise BadInput(f"{target} is there already, and is no export", hint="name a folder that is not there")
    if not force:
        raise BadInput(f"{target} is there already", hint="replace it with --force, or name another folder")


def _fill(plugin: Exporter, request: ExportRequest, folder: Path, target: Path) -> Exported:
    n_features = guarded(plugin.name, lambda: plugin.write(request, folder))
    if not isinstance(n_features, int):
        raise PluginFailed(f"exporter {plugin.name!r} does not say how many features it wrote")
    written = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in written)
    said = {
        "exporter": plugin.name,
        "dictionary": request.dictionary,
        "n_features": n_features,
        "featuredb": version("featuredb"),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / MARK).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for path in (*written, folder / MARK):
        sync_file(path)
    return Exported(target, plugin.name, request.dictionary, n_features, len(written), n_bytes)


def _replace(unfinished: Path, target: Path, *, force: bool) -> None:
    """Moves the finished folder into place; an earlier export goes only once the new one is there."""
    _check_free(target, force=force)  # something may have come meanwhile
    old = None
    if target.is_dir() and any(target.iterdir()):
        old = target.with_name(f".{target.name}-{secrets.token_hex(6)}.old")
        os.rename(target, old)
    try:
        os.rename(unfinished, target)
    except BaseException:
        if old is not None:
            os.rename(old, target)
        raise
    sync_file(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
