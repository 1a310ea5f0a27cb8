"""Directions from files: every format by a real file, every convention as it is told, and nothing that breaks."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featuredb.concepts.control_vectors import write_control_vector
from featuredb.concepts.files import read_file
from featuredb.errors import BadInput, NotFound
from tests.concept_files import ROWS, SINGLE, VECTOR, WRITERS, save_gguf, save_npz, save_safetensors


@pytest.mark.parametrize("name", WRITERS)
def test_numbers_in_names_are_blocks_and_it_is_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    read = read_file(path)
    assert list(read.by_hook) == ["layers.3.resid_post", "layers.4.resid_post"]
    assert (read.by_hook["layers.3.resid_post"] == VECTOR).all()
    assert (read.by_hook["layers.4.resid_post"] == 2 * VECTOR).all()
    assert all(vector.dtype == np.float32 for vector in read.by_hook.values())
    assert read.notes == ("a number N in a name is read as what block N gives",)


@pytest.mark.parametrize("name", SINGLE)
def test_a_nameless_vector_belongs_where_it_is_said_to(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    SINGLE[name](path)
    assert list(read_file(path).by_hook) == [""]
    read = read_file(path, hook="layers.2.resid_pre")
    assert list(read.by_hook) == ["layers.2.resid_pre"]
    assert (read.by_hook["layers.2.resid_pre"] == VECTOR).all()


@pytest.mark.parametrize("name", ["layers.2.mlp_out", "blocks.2.hook_mlp_out"])
def test_names_of_hooks_are_understood(tmp_path: Path, name: str) -> None:
    save_safetensors(tmp_path / "v.safetensors", {name: VECTOR, "layers.1.resid_post": VECTOR})
    read = read_file(tmp_path / "v.safetensors")
    assert sorted(read.by_hook) == ["layers.1.resid_post", "layers.2.mlp_out"]
    assert read.notes == ()


@pytest.mark.parametrize(
    ("rows_are", "hook"), [("block-inputs", "layers.4.resid_pre"), ("hidden-states", "layers.3.resid_post")]
)
def test_numbers_in_names_may_be_said_to_be_others(tmp_path: Path, rows_are: str, hook: str) -> None:
    torch.save({4: torch.tensor(VECTOR)}, tmp_path / "v.pt")
    assert list(read_file(tmp_path / "v.pt", rows_are=rows_are).by_hook) == [hook]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_fractions_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([1.5, -2, 3.25, 0.1], dtype=dtype)
    torch.save(values, tmp_path / "v.pt")
    save_safetensors(tmp_path / "v.safetensors", {"direction.1": values})
    expected = values.float().numpy()
    assert (read_file(tmp_path / "v.pt").by_hook[""] == expected).all()
    (found,) = read_file(tmp_path / "v.safetensors").by_hook.values()
    assert found.dtype == np.float32
    assert (found == expected).all()


def test_half_precision_in_gguf_becomes_float32(tmp_path: Path) -> None:
    save_gguf(tmp_path / "v.gguf", {"direction.1": VECTOR.astype(np.float16)})
    (found,) = read_file(tmp_path / "v.gguf").by_hook.values()
    assert (found == VECTOR.astype(np.float16).astype(np.float32)).all()


def test_rows_are_refused_until_it_is_said_what_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", ROWS)
    with pytest.raises(BadInput) as caught:
        read_file(tmp_path / "v.npy")
    assert "has 5 rows of 6, and does not say what a row is" in caught.value.message
    assert caught.value.hint == "give --rows-are: blocks, block-inputs, hidden-states, concepts"


def test_rows_of_blocks(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.asfortranarray(ROWS))
    read = read_file(tmp_path / "v.npy", rows_are="blocks")
    assert list(read.by_hook) == [f"layers.{n}.resid_post" for n in range(5)]
    assert (np.stack(list(read.by_hook.values())) == ROWS).all()


def test_persona_vectors_rows_are_hidden_states_and_the_last_is_left_out(tmp_path: Path) -> None:
    torch.save(torch.tensor(ROWS), tmp_path / "evil_response_avg_diff.pt")
    read = read_file(tmp_path / "evil_response_avg_diff.pt", rows_are="hidden-states")
    assert list(read.by_hook) == ["embed", *(f"layers.{n}.resid_post" for n in range(3))]
    assert (np.stack(list(read.by_hook.values())) == ROWS[:-1]).all()
    assert "row 4 is left out" in read.notes[1]


def test_rows_that_are_zero_are_left_out(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[0] = 0
    np.save(tmp_path / "v.npy", rows)
    read = read_file(tmp_path / "v.npy", rows_are="hidden-states")
    assert "embed" not in read.by_hook
    assert read.notes[-1] == "rows that are zero are left out: 0"
    np.save(tmp_path / "v.npy", np.zeros((3, 4), dtype=np.float32))
    with pytest.raises(BadInput, match="every row is zero"):
        read_file(tmp_path / "v.npy", rows_are="blocks")


def test_refusal_direction_is_what_enters_a_block(tmp_path: Path) -> None:
    torch.save(torch.tensor(VECTOR, dtype=torch.float64), tmp_path / "direction.pt")
    (tmp_path / "direction_metadata.json").write_text('{"pos": -2, "layer": 9}')
    read = read_file(tmp_path / "direction.pt")
    assert list(read.by_hook) == ["layers.9.resid_pre"]
    assert read.notes == ("layer 9 of direction_metadata.json is read as what enters block 9",)
    assert list(read_file(tmp_path / "direction.pt", hook="layers.1.mlp_in").by_hook) == ["layers.1.mlp_in"]
    (tmp_path / "direction_metadata.json").write_text('{"layer": "nine"}')
    with pytest.raises(BadInput, match="gives the layer as 'nine'"):
        read_file(tmp_path / "direction.pt")


def test_axbench_weights_need_a_row(tmp_path: Path) -> None:
    torch.save(torch.tensor(ROWS), tmp_path / "DiffMean_weight.pt")
    path = tmp_path / "DiffMean_weight.pt"
    with pytest.raises(BadInput, match="has 5 concepts"):
        read_file(path, rows_are="concepts", hook="layers.20.resid_post")
    with pytest.raises(BadInput, match="has no row 5"):
        read_file(path, rows_are="concepts", row=5)
    read = read_file(path, rows_are="concepts", row=3, hook="layers.20.resid_post")
    assert (read.by_hook["layers.20.resid_post"] == ROWS[3]).all()
    assert read.notes == ("row 3 of 5 is taken",)


def test_a_list_of_tensors_is_rows(tmp_path: Path) -> None:
    torch.save([torch.tensor(row) for row in ROWS], tmp_path / "v.pt")
    assert len(read_file(tmp_path / "v.pt", rows_are="blocks").by_hook) == 5


class ControlVector:
    """Stands for a publisher's own class; unpickling it would run code."""

    def __reduce__(self) -> Any:
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_objects_are_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str], legacy: bool) -> None:
    path = tmp_path / "v.pt"
    torch.save({"directions": ControlVector()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BadInput) as caught:
        read_file(path)
    assert "holds a pickled print" in caught.value.message
    assert caught.value.hint is not None
    assert "torch.save({layer: tensor" in caught.value.hint
    path.write_bytes(pickle.dumps(ControlVector()))
    with pytest.raises(BadInput):
        read_file(path)
    assert capsys.readouterr().out == ""


def test_an_npy_of_objects_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "v.npy", np.array([ControlVector()], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="holds object, not fractions"):
        read_file(tmp_path / "v.npy")
    assert capsys.readouterr().out == ""


def bad(values: Any) -> Any:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (bad([0, 0]), "is zero"),
        (bad([1, np.nan]), "is not finite: number 1 is nan"),
        (bad([np.inf, 1]), "is not finite: number 0 is inf"),
        (bad([]), "has shape"),
        (bad(3.0), "has shape"),
        (np.ones((2, 3, 4), dtype=np.float32), "has shape"),
        (np.array([1, 2]), "int64"),
        (np.array([True]), "bool"),
        (np.array([1j]), "complex128"),
        (np.array([1e300]), "is 1e+300, too large for float32"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "safetensors"])
def test_what_is_no_direction_is_refused_with_its_value(tmp_path: Path, kind: str, value: Any, said: str) -> None:
    path = tmp_path / f"v.{kind}"
    if kind == "npy":
        np.save(path, value)
    elif kind == "npz":
        save_npz(path, v=value)
    elif kind == "pt":
        torch.save(torch.tensor(value), path)
    elif value.dtype.kind == "c":
        pytest.skip("safetensors writes no complex numbers here")
    else:
        save_safetensors(path, {"v": value})
    with pytest.raises(BadInput) as caught:
        read_file(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"direction.1": VECTOR, "other": VECTOR}, "the name 'other' says no hook"),
        ({"direction.1": VECTOR, "layer.1": VECTOR}, "are both layers.1.resid_post"),
        ({"layers.1.resid_post": VECTOR, "layers.2.resid_pre": VECTOR}, "are both layers.2.resid_pre"),
        ({"direction.1": VECTOR, "direction.2": VECTOR[:3]}, "has 3 numbers at layers.2.resid_post and 6 numbers at"),
        ({"direction.1": ROWS, "direction.2": ROWS}, "direction.1 has shape (5, 6)"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, tensors: dict[str, Any], said: str) -> None:
    save_safetensors(tmp_path / "v.safetensors", tensors)
    with pytest.raises(BadInput) as caught:
        read_file(tmp_path / "v.safetensors")
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"vector": torch.ones(3), "layer": 12}, "dict with 'layer' of int"),
        ("text", "holds a str"),
        ({}, "holds no array"),
        ({1: torch.ones(3), "1": torch.ones(3)}, "the same name twice"),
    ],
)
def test_pytorch_files_of_other_things_are_refused(tmp_path: Path, held: Any, said: str) -> None:
    torch.save(held, tmp_path / "v.pt")
    with pytest.raises(BadInput) as caught:
        read_file(tmp_path / "v.pt")
    assert said in caught.value.message


def test_a_gguf_of_a_model_or_of_other_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.gguf"
    save_gguf(path, {"direction.1": VECTOR}, architecture="llama")
    with pytest.raises(BadInput, match="gguf of architecture 'llama'"):
        read_file(path)
    save_gguf(path, {"direction.1": ROWS})
    with pytest.raises(BadInput, match="is no direction"):
        read_file(path)
    save_gguf(path, {"direction.x": VECTOR, "direction.1": VECTOR})
    with pytest.raises(BadInput, match=r"the name 'direction.x' says no hook"):
        read_file(path)


@pytest.mark.parametrize("name", ["v.npy", "v.npz", "v.safetensors", "v.pt", "v.gguf"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="is empty"):
        read_file(tmp_path / name)


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file at"):
        read_file(tmp_path / "v.npy")
    (tmp_path / "v.csv").write_text("1,2")
    with pytest.raises(BadInput, match="is of no format known here"):
        read_file(tmp_path / "v.csv")
    np.save(tmp_path / "v.npy", VECTOR)
    (tmp_path / "v.npy").rename(tmp_path / "v.data")
    assert (read_file(tmp_path / "v.data", format="npy").by_hook[""] == VECTOR).all()
    with pytest.raises(BadInput, match="no whole safetensors file"):
        read_file(tmp_path / "v.data", format="safetensors")


def test_a_gguf_of_ours_is_read_as_repeng_reads_it(tmp_path: Path) -> None:
    import gguf

    write_control_vector(tmp_path / "v.gguf", {7: VECTOR, 2: -VECTOR}, "llama")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    text = {
        name: bytes(reader.get_field(name).parts[-1]).decode()
        for name in ("general.architecture", "controlvector.model_hint")
    }
    assert text == {"general.architecture": "controlvector", "controlvector.model_hint": "llama"}
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == 2
    held = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert sorted(held) == ["direction.2", "direction.7"]
    assert held["direction.7"].tobytes() == VECTOR.tobytes()
    read = read_file(tmp_path / "v.gguf")
    assert read.facts == {"model_type": "llama"}
    assert read.by_hook["layers.2.resid_post"].tobytes() == (-VECTOR).tobytes()


def test_json_beside_that_is_none_is_refused(tmp_path: Path) -> None:
    torch.save(torch.tensor(VECTOR), tmp_path / "direction.pt")
    for text in ("[", "[1]", json.dumps("x")):
        (tmp_path / "direction_metadata.json").write_text(text)
        with pytest.raises(BadInput):
            read_file(tmp_path / "direction.pt")
