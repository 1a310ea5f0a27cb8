"""The train plugin: each architecture learns planted directions, and a training that was stopped ends the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import pytest
import torch

from featuredb.dictionary import load_dictionary
from featuredb.errors import BadInput, Interrupted
from featuredb.plugins import Registry, Trainer
from featuredb.training import ARCHITECTURES, TrainingPlan, TrainingProgress, resume_step

D, F, BATCH = 16, 32, 256


@pytest.fixture
def trainer() -> Trainer:
    return Registry.installed().trainer("train")


def plan(architecture: str = "batchtopk", **changed: Any) -> TrainingPlan:
    settings: dict[str, Any] = {
        "d_in": D,
        "n_features": F,
        "n_tokens": 60 * BATCH,
        "architecture": architecture,
        "k": 3,
        "l1": 1.0 if architecture != "jumprelu" else 0.1,
        "lr": 3e-3,
        "batch_size": BATCH,
        "seed": 5,
        "dead_after": 20,
        "checkpoint_every": 25,
        "model": "tiny",
        "hook": "layers.2.resid_post",
        "context_length": 64,
        "prepend_bos": False,
        "corpus": "python-docs",
    }
    return TrainingPlan(**settings | changed)


def activations(skip: int = 0) -> Iterator[torch.Tensor]:
    """Endless batches of sparse sums of planted directions, the same every time, after the first `skip`."""
    directions = torch.nn.functional.normalize(torch.randn(F, D, generator=torch.Generator().manual_seed(1)), dim=1)
    step = skip
    while True:
        generator = torch.Generator().manual_seed(1000 + step)
        fires = torch.rand(BATCH, F, generator=generator) < 0.08
        yield 7 * (fires * (1 + torch.rand(BATCH, F, generator=generator))) @ directions + 0.3
        step += 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_learns_and_loads(architecture: str, trainer: Trainer, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    folder = trainer.train(plan(architecture, n_tokens=200 * BATCH), activations(), tmp_path / "mine", seen.append)
    assert [report.step for report in seen] == list(range(10, 201, 10))
    assert seen[-1].explained_variance > max(0.4, seen[0].explained_variance)
    assert 0 <= seen[-1].dead_fraction <= 1
    assert 0 < seen[-1].l0 < F
    (dictionary,) = load_dictionary(str(folder))
    assert (dictionary.name, dictionary.hook, dictionary.n_features) == ("mine", "layers.2.resid_post", F)
    assert dictionary.trained.model == "tiny"
    assert (dictionary.trained.context_length, dictionary.trained.prepend_bos) == (64, False)
    assert dictionary.trained.corpus == "python-docs"
    # The finished weights work on raw rows: the scale they were trained at is folded in.
    x = next(activations(skip=5000))
    error = (dictionary.reconstruct(x) - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert 1 - float(error) == pytest.approx(seen[-1].explained_variance, abs=0.1)
    if architecture in ("topk", "batchtopk", "matryoshka"):
        assert float((dictionary.encode(x) != 0).float().sum(1).mean()) == pytest.approx(3, abs=0.7)
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_killed_training_ends_with_the_same_weights(architecture: str, trainer: Trainer, tmp_path: Path) -> None:
    killed = tmp_path / "killed" / "mine"

    def snapshot(report: TrainingProgress) -> None:
        """What kill -9 would leave at step 40: the checkpoint of step 25, beside half of another."""
        if report.step == 40:
            shutil.copytree(tmp_path / "whole" / "mine", killed)
            (killed / "checkpoints" / "partial").mkdir()
            (killed / "checkpoints" / "partial" / "cfg.json").write_text("{")

    whole = trainer.train(plan(architecture), activations(), tmp_path / "whole" / "mine", snapshot)
    assert resume_step(killed) == 25
    trainer.train(plan(architecture), activations(skip=25), killed, lambda report: None)
    assert resume_step(killed) == 60
    assert same(whole, killed)


@pytest.mark.parametrize("source", ["progress", "activations"])
def test_whatever_stops_it_between_two_steps_loses_nothing(source: str, trainer: Trainer, tmp_path: Path) -> None:
    whole = trainer.train(plan(), activations(), tmp_path / "whole" / "mine", lambda report: None)
    stopped = tmp_path / "stopped" / "mine"

    def interrupt(report: TrainingProgress) -> None:
        if source == "progress" and report.step == 30:
            raise Interrupted("stopped")

    def interrupted() -> Iterator[torch.Tensor]:
        yield from islice(activations(), 33)
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        trainer.train(plan(), interrupted(), stopped, interrupt)
    assert resume_step(stopped) == (30 if source == "progress" else 33)
    assert [entry.name for entry in (stopped / "checkpoints").iterdir()] == [f"step-{resume_step(stopped)}"]
    trainer.train(plan(), activations(skip=resume_step(stopped)), stopped, lambda report: None)
    assert same(whole, stopped)


def same(one: Path, other: Path) -> bool:
    return load_dictionary(str(one))[0].fingerprint == load_dictionary(str(other))[0].fingerprint


def test_an_unfinished_training_loads_from_its_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the activations ended after 30 of 60 batches"):
        trainer.train(plan(), islice(activations(), 30), tmp_path / "mine", lambda report: None)
    (dictionary,) = load_dictionary(f"saelens:{tmp_path}")
    assert dictionary.name == "mine-checkpoints-step-25"
    assert dictionary.activation.kind == "jumprelu"


def test_a_finished_training_is_returned_as_it_is(trainer: Trainer, tmp_path: Path) -> None:
    short = plan("topk", n_tokens=5 * BATCH)
    folder = trainer.train(short, activations(), tmp_path, lambda report: None)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert trainer.train(short, iter(()), tmp_path, lambda report: None) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_another_plan_in_the_same_folder_is_refused(trainer: Trainer, tmp_path: Path) -> None:
    short = plan("topk", n_tokens=5 * BATCH)
    trainer.train(short, activations(), tmp_path, lambda report: None)
    with pytest.raises(BadInput) as caught:
        trainer.train(replace(short, lr=1e-3, k=4), activations(), tmp_path, lambda report: None)
    assert caught.value.message == f"{tmp_path} holds a training with other settings: k, lr"
    assert json.loads((tmp_path / "plan.json").read_text())["k"] == 3


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(BATCH, D + 1), "batch 0 has shape (256, 17), and the plan says (256, 16)"),
        (torch.full((BATCH, D), float("nan")), "batch 0 holds activations that are not finite"),
        (torch.zeros(BATCH, D), "the activations are empty or all zero"),
    ],
)
def test_batches_that_cannot_be_trained_on_are_refused(
    batch: torch.Tensor, message: str, trainer: Trainer, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as caught:
        trainer.train(plan(), repeat(batch), tmp_path, lambda report: None)
    assert caught.value.message == message
    assert resume_step(tmp_path) == 0


def test_a_training_draws_nothing_from_the_callers_random_numbers(trainer: Trainer, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    trainer.train(plan(n_tokens=3 * BATCH), activations(), tmp_path, lambda report: None)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("batch-top-k", "batchtopk"),
        ("Top-K", "topk"),
        ("JumpReLU", "jumprelu"),
        ("matryoshka_batchtopk", "matryoshka"),
        ("relu", "standard"),
    ],
)
def test_architectures_may_be_spelt_several_ways(said: str, meant: str) -> None:
    assert plan(said).architecture == meant


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "gate"}, "no architecture called 'gate'"),
        ({"k": F + 1}, "k must be in 1..32, not 33"),
        ({"n_tokens": BATCH - 1}, "255 tokens do not fill one batch of 256"),
        ({"n_features": 0}, "n_features must be at least 1, not 0"),
        ({"lr": 0.0}, "lr must be above 0 and l1 at least 0, not 0.0 and 1.0"),
        ({"widths": (8, 4, F)}, "widths must rise to 32, not (8, 4, 32)"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        plan(**changed)
    assert caught.value.message == message
