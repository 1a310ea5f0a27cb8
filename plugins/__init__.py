"""Plugins other than ingest: corpora, one class in one file each, found by the entry points in pyproject.toml."""
