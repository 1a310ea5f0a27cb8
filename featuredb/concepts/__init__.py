"""Concepts: named directions in a model, the texts behind them, and how well they tell those texts apart."""
