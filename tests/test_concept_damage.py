"""Files of directions that are damaged, or that claim what is not so: our own errors, and nothing else."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featuredb.concepts.files import read_file
from featuredb.errors import BadInput, FeatureDBError, NotFound
from tests.concept_files import SINGLE, VECTOR, WRITERS


def test_a_claim_of_more_numbers_than_there_are_is_not_believed(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }"
    for n in (10**18, 10**9, 7):
        text = (header % n).ljust(117) + b"\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + VECTOR.tobytes()
        (tmp_path / "v.npy").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
            archive.writestr("v.npy", content)
        for name in ("v.npy", "v.npz"):
            with pytest.raises(BadInput, match="bytes and has 24"):
                read_file(tmp_path / name)


def test_an_expanded_tensor_is_not_spread_out(tmp_path: Path) -> None:
    torch.save(torch.ones(1).expand(1 << 40), tmp_path / "v.pt")
    with pytest.raises(BadInput, match="at most|has shape"):
        read_file(tmp_path / "v.pt")


def test_a_gguf_that_counts_to_the_end_of_time_ends_in_an_error(tmp_path: Path) -> None:
    # An array of 2^60 bytes, none of them there: the gguf library would count through them.
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 0, 1 << 60)
    (tmp_path / "v.gguf").write_bytes(head)
    with pytest.raises(BadInput, match="is damaged, or not whole"):
        read_file(tmp_path / "v.gguf")


ANY = {**WRITERS, "v.npy": SINGLE["v.npy"]}


@pytest.mark.parametrize("name", ANY)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_met_with_our_own_errors_alone(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / name
    ANY[name](path)
    content = bytearray(path.read_bytes())
    content = content[: data.draw(st.integers(0, len(content)))]
    for at in data.draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=4)):
        if content:
            content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        read = read_file(path, rows_are=data.draw(st.sampled_from([None, "blocks", "hidden-states"])))
    except (BadInput, NotFound):
        return
    assert all(np.isfinite(vector).all() and vector.any() for vector in read.by_hook.values())


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "pt", "gguf"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=300))
def test_any_bytes_are_met_with_our_own_errors_alone(tmp_path: Path, kind: str, content: bytes) -> None:
    magic = {"npy": b"\x93NUMPY\x01\x00", "npz": b"PK\x03\x04", "gguf": b"GGUF\x03\x00\x00\x00", "pt": b"\x80\x02"}
    for start in (b"", magic.get(kind, b"")):
        (tmp_path / f"v.{kind}").write_bytes(start + content)
        with pytest.raises(FeatureDBError):
            read_file(tmp_path / f"v.{kind}")


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "v.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(BadInput, match="no whole safetensors file"):
        read_file(tmp_path / "v.safetensors")
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }".ljust(60_000) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + VECTOR.tobytes()
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(BadInput, match="no whole npy file"):
        read_file(tmp_path / "v.npy")
