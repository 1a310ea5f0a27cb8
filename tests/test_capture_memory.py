"""Running out of memory halves the batch and loses nothing; number types other than float32 go through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from featuredb.capture.ingest import ingest, prepare
from featuredb.database import FeatureDB
from featuredb.store.store import Store
from tests.small_ingest import random_dictionary, request, save_corpus, save_model, texts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("parts")
    return {
        "model": save_model(folder / "model"),
        "dictionaries": [random_dictionary(folder / "sae")],
        "corpus": save_corpus(folder / "corpus.jsonl", texts(40)),
    }


def figures(db: FeatureDB) -> dict[str, Any]:
    statement = "select n_fires, max, mean from feature order by feature"
    columns: dict[str, Any] = db.sql(statement).to_pydict()
    return columns


def test_running_out_of_memory_halves_the_batch(parts: dict[str, Any], tmp_path: Path) -> None:
    sizes = []

    def short_of_memory(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        n = len(kwargs["input_ids"] if "input_ids" in kwargs else args[0])
        sizes.append(n)
        if n > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    plan = prepare(request(**parts, batch_size=8))
    handle = plan.model.module.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    with FeatureDB(Store.create(tmp_path / "short.fdb")) as short:
        ingest(short.store, plan)
        handle.remove()
        assert sizes[:7] == [8, 4, 2, 2, 4, 2, 2]
        assert max(sizes[7:]) == 2
        with FeatureDB(Store.create(tmp_path / "roomy.fdb")) as roomy:
            roomy.ingest(request(**parts, batch_size=8))
            found, expected = figures(short), figures(roomy)
    assert found["n_fires"] == expected["n_fires"]
    assert found["max"] == pytest.approx(expected["max"], rel=1e-4)


def test_an_error_that_is_not_about_memory_is_not_retried(parts: dict[str, Any], tmp_path: Path) -> None:
    def broken(module: torch.nn.Module, args: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    plan = prepare(request(**parts))
    plan.model.module.register_forward_pre_hook(broken)
    with Store.create(tmp_path / "store.fdb") as store:
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            ingest(store, plan)
        assert list(store.paths.work.iterdir()) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_figures(parts: dict[str, Any], tmp_path: Path, dtype: str) -> None:
    wanted = request(**parts, name="small")
    with FeatureDB(Store.create(tmp_path / "store.fdb")) as db:
        db.ingest(wanted)
        whole = figures(db)
        db.remove_dictionary("small")
        db.ingest(replace(wanted, model=replace(wanted.model, dtype=dtype)))
        half = figures(db)
    fires = torch.tensor([whole["n_fires"], half["n_fires"]], dtype=torch.float64)
    assert torch.corrcoef(fires)[0, 1] > 0.99
