"""Trains a dictionary with sae-lens's SAETrainer, on activation rows that the caller hands over.

1. The weights are drawn from the plan's seed; rows are scaled to a mean length of sqrt(d_in), measured on the first
   batches, which are then trained on like any other.
2. Each step takes one batch. Every `checkpoint_every` steps, and when the caller stops it by an exception, weights,
   optimizer, schedules and counts are written under a temporary name and renamed.
3. At the end the scale is folded into the weights, and sae-lens's inference form is saved: cfg.json last, so that a
   folder with a cfg.json holds a finished dictionary.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuredb.errors import BadInput
from featuredb.training import (
    CHECKPOINTS,
    PLAN_FILE,
    TrainingPlan,
    TrainingProgress,
    is_finished,
    latest_checkpoint,
    read_plan,
)

if TYPE_CHECKING:
    import torch

_SCALE_BATCHES = 16
"""Batches whose mean length sets the scale: enough rows for a mean, few enough to hold."""
_REPORT_EVERY = 10


class Train:
    """Trains standard, top-k, batch-top-k, JumpReLU, gated and matryoshka SAEs."""

    name = "train.v1"

    def train(
        self,
        plan: TrainingPlan,
        activations: Iterator[torch.Tensor],
        folder: Path,
        progress: Callable[[TrainingProgress], None],
    ) -> Path:
        """`folder`, where the finished dictionary lies; `activations` begins after the `resume_step(folder)`-th batch.

        Raises BadInput when the folder holds another training, or a batch is not (n, d_in) of finite numbers.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _claim(plan, folder)
        if is_finished(folder):
            return folder
        trainer = _Trainer(plan, folder)
        trainer.run(_checked(activations, plan, trainer.step), progress)
        trainer.finish()
        return folder


def _claim(plan: TrainingPlan, folder: Path) -> None:
    """Writes the plan on the first call; on a later one holds it against the plan that is there."""
    if not (folder / PLAN_FILE).exists():
        partial = folder / f"{PLAN_FILE}.partial"
        partial.write_text(json.dumps(plan.to_json(), indent=1), encoding="utf-8")
        os.replace(partial, folder / PLAN_FILE)
        return
    held = read_plan(folder)
    ours = replace(plan, device=held.device, checkpoint_every=held.checkpoint_every)
    if held != ours:
        other = [name for name, value in held.to_json().items() if value != ours.to_json()[name]]
        raise BadInput(
            f"{folder} holds a training with other settings: {', '.join(other)}",
            hint="repeat those to go on with it, or name another folder",
        )


def _checked(activations: Iterator[torch.Tensor], plan: TrainingPlan, done: int) -> Iterator[torch.Tensor]:
    import torch

    for step, batch in enumerate(activations, start=done):
        if batch.shape != (plan.batch_size, plan.d_in):
            raise BadInput(
                f"batch {step} has shape {tuple(batch.shape)}, and the plan says {(plan.batch_size, plan.d_in)}"
            )
        if not bool(torch.isfinite(batch).all()):
            raise BadInput(f"batch {step} holds activations that are not finite", hint="does the model run in float16?")
        yield batch


class _Trainer:
    """sae-lens's trainer, stepped by us: its own fit() draws a bar and cannot be stopped cleanly."""

    def __init__(self, plan: TrainingPlan, folder: Path) -> None:
        import torch
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        self.plan = plan
        self.folder = folder
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sae-lens warns of the matryoshka widths it adds
            torch.manual_seed(plan.seed)
            sae = _new_sae(plan).to(plan.device)
        config = SAETrainerConfig(
            total_training_samples=plan.n_steps * plan.batch_size,
            train_batch_size_samples=plan.batch_size,
            lr=plan.lr,
            lr_end=plan.lr,
            lr_warm_up_steps=_warm_up(plan),
            lr_decay_steps=plan.n_steps // 5,
            device=plan.device,
            dead_feature_window=plan.dead_after,
        )
        # It reads no batch by itself: every one is handed to step().
        self.trainer = SAETrainer(cfg=config, sae=sae, data_provider=iter(()))
        self.sae = sae
        last = latest_checkpoint(folder)
        if last is not None:
            sae.load_weights_from_checkpoint(last)
            self.trainer.load_trainer_state(last)

    @property
    def step(self) -> int:
        return int(self.trainer.n_training_steps)

    def run(self, batches: Iterator[torch.Tensor], progress: Callable[[TrainingProgress], None]) -> None:
        """Trains to the plan's last step."""
        if self.plan.scale_activations and self.step == 0:
            batches = self._measure_scale(batches)
        while self.step < self.plan.n_steps:
            with self._kept():
                batch = next(batches, None)
            if batch is None:
                raise BadInput(
                    f"the activations ended after {self.step} of {self.plan.n_steps} batches",
                    hint="train on fewer tokens, or on a larger corpus",
                )
            self.trainer.maybe_reset_sparsity()
            output = self.trainer.step(batch)
            self.trainer.n_training_steps += 1
            last = self.step == self.plan.n_steps
            if self.step % self.plan.checkpoint_every == 0 and not last:
                self.save()
            if last or self.step % _REPORT_EVERY == 0:
                report = self._measured(output)
                with self._kept():
                    progress(report)

    def save(self) -> None:
        """Writes a checkpoint, whole or not at all, and removes the one before."""
        held = self.folder / CHECKPOINTS
        before = latest_checkpoint(self.folder)
        partial = held / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        self.trainer.save_checkpoint(partial.name, base_path=held)
        os.replace(partial, held / f"step-{self.step}")
        if before is not None and before.name != f"step-{self.step}":
            shutil.rmtree(before)

    def finish(self) -> None:
        """Folds the scale in, saves the inference form in the folder and removes the checkpoints."""
        scaler = self.trainer.activation_scaler
        if scaler.scaling_factor is not None:
            self.sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
        self.trainer.set_final_sae_metadata()
        partial = self.folder / "finished.partial"
        shutil.rmtree(partial, ignore_errors=True)
        weights, cfg = self.sae.save_inference_model(partial)
        os.replace(weights, self.folder / weights.name)
        os.replace(cfg, self.folder / cfg.name)
        shutil.rmtree(partial)
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)

    def _measure_scale(self, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        first = list(islice(batches, min(_SCALE_BATCHES, self.plan.n_steps)))
        lengths = [float(batch.norm(dim=-1).double().mean()) for batch in first]
        if not lengths or sum(lengths) == 0:
            raise BadInput("the activations are empty or all zero", hint="is the hook the one you mean?")
        self.trainer.activation_scaler.scaling_factor = self.plan.d_in**0.5 * len(lengths) / sum(lengths)
        return chain(first, batches)

    def _measured(self, output: Any) -> TrainingProgress:
        rows, out, acts = output.sae_in.detach(), output.sae_out.detach(), output.feature_acts.detach()
        variance = float((rows - rows.mean(0)).pow(2).sum())
        return TrainingProgress(
            step=self.step,
            n_steps=self.plan.n_steps,
            loss=float(output.loss.detach()),
            explained_variance=1 - float((out - rows).pow(2).sum()) / variance if variance > 0 else 0.0,
            dead_fraction=float(self.trainer.dead_neurons.float().mean()),
            l0=float((acts != 0).float().sum(-1).mean()),
        )

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """The caller's own code, between two steps: whatever stops it there, the steps done are kept."""
        try:
            yield
        except BaseException:
            if 0 < self.step < self.plan.n_steps:
                self.save()
            raise


def _warm_up(plan: TrainingPlan) -> int:
    # One step of warm-up would divide by zero in sae-lens's schedule.
    steps = min(1000, plan.n_steps // 20)
    return steps if steps > 1 else 0


def _new_sae(plan: TrainingPlan) -> Any:
    import sae_lens
    from sae_lens.saes.sae import SAEMetadata

    said = {
        "model_name": plan.model,
        "hook_name": plan.hook,
        "context_size": plan.context_length,
        "prepend_bos": plan.prepend_bos,
        "dataset_path": plan.corpus,
    }
    shared: dict[str, Any] = {
        "d_in": plan.d_in,
        "d_sae": plan.n_features,
        # Says that rows are scaled: sae-lens's fold clears it.
        "normalize_activations": "expected_average_only_in" if plan.scale_activations else "none",
        "metadata": SAEMetadata(**{key: value for key, value in said.items() if value is not None}),
    }
    warm_up = _warm_up(plan)
    match plan.architecture:
        case "standard":
            config = sae_lens.StandardTrainingSAEConfig(l1_coefficient=plan.l1, l1_warm_up_steps=warm_up, **shared)
            return sae_lens.StandardTrainingSAE(config)
        case "gated":
            config = sae_lens.GatedTrainingSAEConfig(l1_coefficient=plan.l1, l1_warm_up_steps=warm_up, **shared)
            return sae_lens.GatedTrainingSAE(config)
        case "jumprelu":
            config = sae_lens.JumpReLUTrainingSAEConfig(l0_coefficient=plan.l1, l0_warm_up_steps=warm_up, **shared)
            return sae_lens.JumpReLUTrainingSAE(config)
        case "topk":
            return sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(k=plan.k, **shared))
    # The threshold that stands for k afterwards is a running mean that starts at 0. In a short training sae-lens's
    # own rate would leave it too low, and too much would fire.
    shared["topk_threshold_lr"] = max(0.01, min(0.2, 20 / plan.n_steps))
    if plan.architecture == "batchtopk":
        return sae_lens.BatchTopKTrainingSAE(sae_lens.BatchTopKTrainingSAEConfig(k=plan.k, **shared))
    config = sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(
        k=plan.k, matryoshka_widths=plan.matryoshka_widths(), **shared
    )
    return sae_lens.MatryoshkaBatchTopKTrainingSAE(config)
