"""Corpus to contexts to activations to reducers to a segment: the hot path."""
