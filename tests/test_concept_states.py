"""Vectors of texts: the same whatever runs beside them, cut as by hand where they are long, never of padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from featuredb.concepts.states import cut, n_windowed, states
from featuredb.errors import BadInput
from featuredb.model import Model, model_from
from featuredb.progress import Progress
from tests.tiny_models import tiny

TEXTS = (
    "The cat sat on the mat.",
    "def area(width, height): return width",
    "x",
    "IN CAPITALS: NOTHING IS LOST, " * 12,
    "Zwölf Boxkämpfer jagen Viktor",
)
HOOKS = ("layers.0.resid_pre", "layers.0.mlp_in", "layers.1.resid_post")
CHAT = "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content | trim }}\n{% endfor %}assistant:"


def small(kind: str = "llama", **settings: Any) -> Model:
    return model_from(*tiny(kind, **settings), name="tiny")


@pytest.fixture(scope="module")
def model() -> Model:
    return small()


def by_hand(model: Model, ids: list[int], hook: str) -> Any:
    row = torch.tensor([ids])
    return model.run(row, torch.ones_like(row, dtype=torch.bool), [hook])[hook][0].float().numpy()


@pytest.mark.parametrize("token", ["last", "mean", "all"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "bert"])
def test_vectors_do_not_depend_on_the_batch(kind: str, token: Any) -> None:
    model = small(kind)
    hooks = [hook for hook in HOOKS if hook in model.hook_map.points]
    alone = states(model, TEXTS, hooks, token=token, batch_size=1)
    for size in (2, 5, None):
        together = states(model, TEXTS, hooks, token=token, batch_size=size)
        for hook in hooks:
            for one, other in zip(alone[hook], together[hook], strict=True):
                assert one.shape == other.shape
                assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_short_text_is_run_behind_bos(model: Model, hook: str) -> None:
    ids = model.encode_text(TEXTS[0]).tolist()
    expected = by_hand(model, [0, *ids], hook)[1:]
    found = {
        token: states(model, [TEXTS[2], TEXTS[0]], [hook], token=token)[hook][1] for token in ("last", "mean", "all")
    }
    assert found["all"] == pytest.approx(expected, abs=1e-5)
    assert found["last"] == pytest.approx(expected[-1:], abs=1e-5)
    assert found["mean"] == pytest.approx(expected.mean(0, keepdims=True), abs=1e-5)
    assert all(vectors.dtype == np.float32 for vectors in found.values())


@pytest.mark.parametrize("window", [None, 17, 2])
def test_a_long_text_is_cut_as_by_hand_and_nothing_is_left_out(model: Model, window: int | None) -> None:
    text = TEXTS[3]
    ids = model.encode_text(text).tolist()
    length = (window or model.max_length or 0) - 1
    assert len(ids) > length
    hook = HOOKS[-1]
    expected = np.concatenate(
        [by_hand(model, [0, *ids[start : start + length]], hook)[1:] for start in range(0, len(ids), length)]
    )
    assert len(expected) == len(ids)
    found = {
        token: states(model, [TEXTS[0], text], [hook], token=token, window=window)[hook][1]
        for token in ("last", "mean", "all")
    }
    assert found["all"] == pytest.approx(expected, abs=1e-5)
    assert found["last"] == pytest.approx(expected[-1:], abs=1e-5)
    assert found["mean"] == pytest.approx(expected.mean(0, keepdims=True), abs=1e-5)


def test_how_many_texts_are_cut_is_told(model: Model) -> None:
    assert n_windowed(model, TEXTS) == 1
    assert n_windowed(model, TEXTS, window=4) == 4


def test_special_tokens_never_speak(model: Model) -> None:
    text = "<|endoftext|>The cat<|endoftext|>"
    ids = model.encode_text(text).tolist()
    assert (ids[0], ids[-1]) == (0, 0)
    expected = by_hand(model, ids, HOOKS[-1])[1:-1]
    assert states(model, [text], HOOKS[-1:], token="all")[HOOKS[-1]][0] == pytest.approx(expected, abs=1e-5)
    assert states(model, [text], HOOKS[-1:], token="last")[HOOKS[-1]][0] == pytest.approx(expected[-1:], abs=1e-5)


def test_a_text_of_special_tokens_alone_is_refused(model: Model) -> None:
    with pytest.raises(BadInput, match=r"'<\|endoftext\|>' has no ordinary tokens"):
        states(model, ["<|endoftext|>"], HOOKS)


def test_what_a_row_is_padded_with_does_not_matter(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = states(model, TEXTS, HOOKS, token="all", batch_size=5)
    monkeypatch.setitem(model.__dict__, "pad_id", 17)
    after = states(model, TEXTS, HOOKS, token="all", batch_size=5)
    for hook in HOOKS:
        for one, other in zip(before[hook], after[hook], strict=True):
            assert other == pytest.approx(one, abs=1e-6)


def test_a_model_without_bos_gets_none() -> None:
    module, tokenizer = tiny("llama")
    tokenizer.bos_token = None
    model = model_from(module, tokenizer, name="tiny")
    assert model.bos_id is None
    expected = by_hand(model, model.encode_text(TEXTS[0]).tolist(), HOOKS[-1])
    assert states(model, TEXTS[:1], HOOKS[-1:], token="all")[HOOKS[-1]][0] == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def chatting(model: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(model.tokenizer, "chat_template", CHAT)
    return model


def test_chat_takes_the_text_alone_or_the_last_token_before_the_answer(chatting: Model) -> None:
    rendered = f"<|endoftext|>user: {TEXTS[0]}\nassistant:"
    ids = chatting.encode_text(rendered).tolist()
    expected = by_hand(chatting, ids, HOOKS[-1])
    last = states(chatting, [f" {TEXTS[0]} "], HOOKS[-1:], token="last", chat=True)[HOOKS[-1]][0]
    assert last == pytest.approx(expected[-1:], abs=1e-5)
    (row,) = cut(chatting, 0, f" {TEXTS[0]} ", "all", chat=True)
    assert row.ids.tolist() == ids
    said = chatting.tokenizer.decode(row.ids[row.chosen].tolist())
    assert TEXTS[0] in said
    assert len(said) <= len(TEXTS[0]) + 2  # tokens may reach over its ends
    every = states(chatting, [TEXTS[0]], HOOKS[-1:], token="all", chat=True)[HOOKS[-1]][0]
    assert every == pytest.approx(expected[row.chosen], abs=1e-5)


def test_chat_without_a_template_is_refused(model: Model) -> None:
    with pytest.raises(BadInput, match="tiny has no chat template"):
        states(model, TEXTS, HOOKS, chat=True)


@pytest.mark.parametrize(
    ("template", "said"), [("{{ nothing.there.at_all }}", "chat template of tiny fails"), ("hello", "changes the text")]
)
def test_a_template_that_does_not_work_is_refused(
    model: Model, monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    monkeypatch.setattr(model.tokenizer, "chat_template", template)
    with pytest.raises(BadInput, match=said):
        states(model, TEXTS, HOOKS, chat=True, token="mean")


def test_less_run_at_once_where_memory_ends(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = states(model, TEXTS, HOOKS, token="mean")
    run, sizes = Model.run, []

    def short_of_memory(self: Model, ids: Any, mask: Any, hooks: Any) -> Any:
        sizes.append(len(ids))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, ids, mask, hooks)

    monkeypatch.setattr(Model, "run", short_of_memory)
    found = states(model, TEXTS, HOOKS, token="mean", batch_size=6)
    assert sizes[:2] == [6, 3]
    assert max(sizes[2:]) <= 2
    for hook in HOOKS:
        assert np.concatenate(found[hook]) == pytest.approx(np.concatenate(expected[hook]), abs=1e-5)


def test_vectors_that_are_not_finite_are_named() -> None:
    module, tokenizer = tiny("llama")
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    model = model_from(module, tokenizer, name="tiny")
    with pytest.raises(BadInput, match=r"tiny: layers\.1\.resid_post is not finite on the text 'The cat"):
        states(model, TEXTS[:1], HOOKS)
    assert np.isfinite(states(model, TEXTS[:1], HOOKS[:2])[HOOKS[0]][0]).all()


def test_progress_counts_every_row(model: Model) -> None:
    told: list[Progress] = []
    states(model, TEXTS, HOOKS, token="all", progress=told.append)
    rows = sum(len(cut(model, 0, text, "all")) for text in TEXTS)
    assert [(each.done, each.total) for each in told] == [(n, rows) for n in range(1, rows + 1)]
