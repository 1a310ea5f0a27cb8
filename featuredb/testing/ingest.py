"""What every ingest plugin must keep, ours and a stranger's. Subclass it, and give it the plugin and something to load.

class TestMine(IngestContract):
    @pytest.fixture
    def plugin(self) -> Ingest:
        return MyIngest()

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        return str(write_a_small_one(tmp_path))
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from featuredb.dictionary import Dictionary
from featuredb.errors import NotFound
from featuredb.plugins import Ingest


class IngestContract:
    """The tests of one ingest plugin; `source` is something it loads, small enough to be encoded here."""

    @pytest.fixture
    def plugin(self) -> Ingest:
        raise NotImplementedError("give the contract a `plugin` fixture")

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        raise NotImplementedError("give the contract a `source` fixture")

    @pytest.fixture
    def dictionaries(self, plugin: Ingest, source: str) -> list[Dictionary]:
        return plugin.load(source)

    def test_name_carries_a_version(self, plugin: Ingest) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9-]*\.v\d+", plugin.name)

    def test_nonsense_is_not_recognised(self, plugin: Ingest, tmp_path: Path) -> None:
        assert plugin.recognises(str(tmp_path / "no" / "such" / "thing")) is False
        assert plugin.recognises("") is False

    def test_an_empty_folder_is_not_recognised(self, plugin: Ingest, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        assert plugin.recognises(str(empty)) is False

    def test_a_missing_source_is_not_found(self, plugin: Ingest, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            plugin.load(str(tmp_path / "no" / "such" / "thing"))

    def test_dictionaries_say_where_they_come_from(self, plugin: Ingest, dictionaries: list[Dictionary]) -> None:
        assert dictionaries
        assert {dictionary.plugin for dictionary in dictionaries} == {plugin.name}
        assert all(dictionary.source for dictionary in dictionaries)
        assert len({dictionary.name for dictionary in dictionaries}) == len(dictionaries)

    def test_loading_twice_gives_the_same(self, plugin: Ingest, source: str, dictionaries: list[Dictionary]) -> None:
        again = plugin.load(source)
        assert [d.name for d in again] == [d.name for d in dictionaries]
        assert [d.fingerprint for d in again] == [d.fingerprint for d in dictionaries]

    def test_saving_keeps_every_bit(self, dictionaries: list[Dictionary], tmp_path: Path) -> None:
        for dictionary in dictionaries:
            path = tmp_path / f"{dictionary.name}.safetensors"
            dictionary.save(path)
            back = Dictionary.read(path)
            assert back.fingerprint == dictionary.fingerprint
            assert (back.name, back.trained, back.source) == (dictionary.name, dictionary.trained, dictionary.source)
            x = rows(dictionary)
            assert torch.equal(back.encode(x), dictionary.encode(x))

    def test_encode_looks_at_one_row_alone(self, dictionaries: list[Dictionary]) -> None:
        for dictionary in dictionaries:
            x = rows(dictionary)
            whole = dictionary.encode(x)
            assert whole.shape == (len(x), dictionary.n_features)
            assert whole.dtype == torch.float32
            singly = torch.cat([dictionary.encode(x[i : i + 1]) for i in range(len(x))])
            torch.testing.assert_close(singly, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))

    def test_decode_has_the_outputs_shape(self, dictionaries: list[Dictionary]) -> None:
        for dictionary in dictionaries:
            x = rows(dictionary)
            n_out, d_out = dictionary.n_out, dictionary.d_out
            shape = (len(x), d_out) if n_out == 1 else (len(x), n_out, d_out)
            assert dictionary.decode(dictionary.encode(x)).shape == shape
            assert dictionary.reconstruct(x).shape == shape


def rows(dictionary: Dictionary, n: int = 7) -> torch.Tensor:
    """(n, d_in) rows of noise, always the same."""
    return torch.randn(n, dictionary.d_in, generator=torch.Generator().manual_seed(0))
