"""The demo: a model and a dictionary shipped here, and what is done with them. The doing itself is in tour.py."""

from __future__ import annotations

from featuredb.demo.tour import dictionary_folder, model_folder, run_demo, training

__all__ = ["dictionary_folder", "model_folder", "run_demo", "training"]
