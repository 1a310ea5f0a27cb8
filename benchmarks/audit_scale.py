"""Seconds and peak memory of labelling and auditing five times the demo's features: how both grow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.common import Bench, Figure, featuredb_command, run_measured

COPIES = 5
N_TOKENS = 500_000
HOURS, FEATURES = 2, 100_000


def measure(bench: Bench) -> list[Figure]:
    store, n_features = _store(bench)
    command = featuredb_command()
    label, label_peak = run_measured([command, "label", "make", "larger", "--quiet", "--db", str(store)])
    bench.say(f"labelled in {label:.0f} s")
    seconds, peak = run_measured([command, "audit", "--quiet", "--limit", "1", "--db", str(store)])
    hours = seconds * FEATURES / n_features / 3600
    how = f"the demo's features, each with four noisy copies: {n_features:,}; 500,000 tokens"
    said = f"{seconds:.0f} s, peak {peak:,.0f} MiB; {hours:.1f} h for {FEATURES:,} if it grows in proportion"
    return [
        Figure("audit_scale: labelling", "", f"{label:.0f} s, peak {label_peak:,.0f} MiB", how),
        Figure("audit_scale: audit", f"≤ {HOURS} h for {FEATURES:,}", said, how, None),
    ]


def _store(bench: Bench) -> tuple[Path, int]:
    import featuredb
    from featuredb.capture.request import CaptureSettings, CorpusRequest, IngestRequest, ModelRequest
    from featuredb.demo.tour import model_folder

    path, folder = bench.folder / "larger.fdb", bench.folder / "larger"
    n_features = _dictionary(folder)
    if not path.exists():
        corpus = CorpusRequest("python-docs", bench.choose(N_TOKENS, 20_000))
        request = IngestRequest(
            ModelRequest(str(model_folder())),
            (f"saelens:{folder}",),
            corpus,
            CaptureSettings(n_panel=512),
            name="larger",
        )
        with featuredb.open(path, create=True) as db:
            db.ingest(request)
    return path, n_features


def _dictionary(folder: Path) -> int:
    """The demo's dictionary with noisy copies of each feature, whose thresholds are higher; its number of features."""
    from safetensors.numpy import load_file, save_file

    import featuredb.demo

    shipped = Path(featuredb.demo.__file__).parent / "dictionary"
    weights = load_file(shipped / "sae_weights.safetensors")
    settings = json.loads((shipped / "cfg.json").read_text())
    n_features = COPIES * len(weights["b_enc"])
    if folder.exists():
        return n_features
    random = np.random.default_rng(0)
    made = {"b_dec": weights["b_dec"], "b_enc": np.tile(weights["b_enc"], COPIES)}
    made["threshold"] = np.tile(weights["threshold"], COPIES) * random.uniform(1, 2, n_features).astype(np.float32)
    for name, axis in (("W_enc", 1), ("W_dec", 0)):
        tiled = np.concatenate([weights[name]] * COPIES, axis=axis)
        noise = random.normal(size=tiled.shape).astype(np.float32)
        made[name] = tiled + 0.4 * tiled.std(axis=1 - axis, keepdims=True) * noise
    folder.mkdir()
    save_file(made, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(settings | {"d_sae": n_features}))
    return n_features
