"""Transformers models: loaded, their hooks named, run up to a hook and stopped there."""

from __future__ import annotations

from featuredb.model.load import load_model, model_from
from featuredb.model.run import Model, is_out_of_memory

__all__ = ["Model", "is_out_of_memory", "load_model", "model_from"]
