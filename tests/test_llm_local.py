"""Labels by models that run here, and the wire of a server that is not ours: `transformers serve`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from featuredb.errors import BadInput, NotFound
from featuredb.labels.answers import AnswerCache
from featuredb.labels.requests import Proposal
from featuredb.llm.asking import Ask, Asking, answer_key
from featuredb.llm.budget import Prices, Purse
from featuredb.llm.chat import NoReply, Reply
from featuredb.llm.local import LocalChat
from featuredb.llm.prompts import FENCE, Question
from featuredb_plugins.detection import Detection
from featuredb_plugins.openai import OpenAI
from featuredb_plugins.transformers import Transformers
from tests.llm_store import CAPITALS, DIGITS, PERCENT, Bench, bench
from tests.tiny_models import save_tiny, tiny, tiny_tokenizer

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE
WRITTEN = ('{"label": "', "what a small model wrote", '"}')


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("planted") / "planted.fdb") as made:
        yield made


def save_writer(path: Path, template: str | None = TEMPLATE, pieces: tuple[str, ...] = WRITTEN) -> Path:
    """A Llama that, after a colon or a line's end, writes those pieces and stops, whatever it is asked.

    Its blocks add nothing, and its output layer maps each token's embedding onto the token to follow.
    """
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(list(pieces))
    tokenizer.chat_template = template
    model, _ = tiny("llama", vocab_size=len(tokenizer), max_position_embeddings=16_384, tie_word_embeddings=False)
    chain = [*tokenizer.convert_tokens_to_ids(list(pieces)), tokenizer.eos_token_id]
    first = tokenizer.encode(":\n", add_special_tokens=False)
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        model.model.norm.weight.fill_(1)
        embedding = model.model.embed_tokens.weight
        embedding.copy_(torch.nn.functional.normalize(torch.randn_like(embedding), dim=-1))
        model.lm_head.weight.zero_()
        for before, after in [*((one, chain[0]) for one in first), *zip(chain[:-1], chain[1:], strict=True)]:
            model.lm_head.weight[after] += embedding[before]
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def labels(made: Bench, model: Path, *features: int, **options: str) -> dict[int, Proposal]:
    given: dict[str, Any] = {"model": str(model), "device": "cpu", "max_tokens": "16", **options}
    found = list(Transformers().label(made.label_request(*features, cached=False, **given)))
    return {proposal.feature: proposal for proposal in found}


def replies(chat: LocalChat, *texts: str) -> list[Reply | NoReply]:
    for ticket, text in enumerate(texts):
        chat.submit(ticket, Question((("system", f"rules {FENCE}"), ("user", text))))
    return [outcome for _, outcome in sorted(chat.collect(), key=lambda pair: pair[0])]


@pytest.mark.parametrize("template", [TEMPLATE, NO_SYSTEM, None], ids=["chat", "chat without system", "completion"])
def test_model_that_answers_well_labels(planted: Bench, tmp_path: Path, template: str | None) -> None:
    found = labels(planted, save_writer(tmp_path / "writer", template), DIGITS, CAPITALS)
    assert {proposal.text for proposal in found.values()} == {WRITTEN[1]}
    told = found[DIGITS].provenance
    assert (told["model"], told["endpoint"], told["chat_template"]) == ("writer", "transformers", template is not None)
    assert told["tokens_out"] == len(WRITTEN) + 1
    assert told["tokens_in"] > 500


def test_model_that_writes_nonsense_yields_failures(planted: Bench, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "noise", "llama", max_position_embeddings=16_384)
    found = labels(planted, model, DIGITS, CAPITALS, PERCENT, n_examples="5")
    assert [proposal.text for proposal in found.values()] == [None] * 3
    assert all(str(one.failed).startswith("noise gave no usable answer: it ") for one in found.values())


def test_prompt_longer_than_the_model_reads_is_a_failure_with_its_size(planted: Bench, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "short", "gpt2")
    failed = str(labels(planted, model, DIGITS)[DIGITS].failed)
    assert failed.startswith("the prompt has ")
    assert failed.endswith("tokens and the answer up to 16, but short reads 128")


def test_batch_and_order_do_not_change_answers(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "noise", "llama", max_position_embeddings=1024)
    texts = ["one", "a much longer question " * 9, "12345", "x"]
    together = LocalChat(str(model), max_tokens=12, batch_size=4, device="cpu")
    assert together.room == 4
    alone = [replies(together, text)[0] for text in texts]
    assert replies(together, *texts) == alone, "padding is not read"
    assert all(isinstance(one, Reply) and one.n_out == 12 for one in alone)


def test_fence_is_not_of_chance_here_and_not_in_what_is_kept(tmp_path: Path) -> None:
    chat = LocalChat(str(save_writer(tmp_path / "writer")), max_tokens=16, batch_size=2, device="cpu")
    assert replies(chat, "a", "a") == replies(chat, "a", "a")
    assert chat.close() == []
    assert chat.identity == LocalChat(str(tmp_path / "writer"), max_tokens=16, batch_size=1, device="cpu").identity


def test_answers_that_come_together_are_all_kept_before_one_is_handed_out(planted: Bench, tmp_path: Path) -> None:
    chat = LocalChat(str(save_writer(tmp_path / "writer")), max_tokens=16, batch_size=4, device="cpu")
    cache = AnswerCache(planted.store)
    questions = [Question((("user", text),)) for text in ("one", "two", "three")]
    asks = [Ask((number,), question, str) for number, question in enumerate(questions)]
    asking: Asking[str] = Asking(chat, cache, Purse(Prices()))
    running = asking.run(iter(asks))
    next(running)
    assert isinstance(running, Generator)
    running.close()
    assert all(cache.get(answer_key(chat, question)) is not None for question in questions)


def test_greedy_answers_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = save_tiny(tmp_path / "noise", "qwen2", max_position_embeddings=1024)
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
    question = Question((("user", "The cat sat"),))
    chat = LocalChat(str(path), max_tokens=8, batch_size=1, device="cpu")
    chat.submit(0, question)
    ((_, ours),) = chat.collect()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode("The cat sat\n\n", add_special_tokens=False)]])
    theirs = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, pad_token_id=0)
    assert isinstance(ours, Reply)
    assert ours.kept.startswith(tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True))
    assert ours.n_in == ids.shape[1]


def test_models_own_settings_for_chatting_are_not_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain, chatty = (save_tiny(tmp_path / name, "llama", max_position_embeddings=1024) for name in ("plain", "chatty"))
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 3, "repetition_penalty": 5.0}
    (chatty / "generation_config.json").write_text(
        json.dumps({**settings, "no_repeat_ngram_size": 1, "eos_token_id": 0})
    )
    capfd.readouterr()
    first, second = (LocalChat(str(path), max_tokens=24, batch_size=1, device="cpu") for path in (plain, chatty))
    assert replies(first, "The cat") == replies(second, "The cat")
    assert capfd.readouterr().err == ""


def test_judge_may_run_here_too(planted: Bench, tmp_path: Path) -> None:
    model = save_writer(tmp_path / "writer", pieces=("{", "}"))
    options: dict[str, Any] = {"endpoint": "transformers", "model": str(model), "device": "cpu", "n_examples": "5"}
    request = planted.score_request({DIGITS: "digits"}, "words", cached=False, **options)
    (scored,) = Detection().score(request)
    assert scored.value is None
    assert scored.judge == "writer"
    assert scored.failed_answers == 10
    assert Detection().estimate(request).n_requests == 20


def test_estimate_loads_no_model(planted: Bench) -> None:
    found = Transformers().estimate(planted.label_request(DIGITS, CAPITALS, model="no/such/model"))
    assert (found.n_requests, found.cost) == (2, None)


def test_model_that_is_not_there_or_cannot_write_is_refused(planted: Bench, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no model is named"):
        list(Transformers().label(planted.label_request(DIGITS)))
    with pytest.raises(NotFound):
        labels(planted, tmp_path / "none" / "such" / "model", DIGITS)
    with pytest.raises(BadInput, match="cannot write text"):
        labels(planted, save_tiny(tmp_path / "bert", "bert"), DIGITS)


SERVED = all(find_spec(name) for name in ("fastapi", "uvicorn", "openai"))


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The address of a `transformers serve` on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen([*command, "--device", "cpu"], env={**os.environ, "HF_HUB_OFFLINE": "1"}, **quiet)
    try:
        for _ in range(600):
            assert running.poll() is None, "transformers serve ended by itself"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait()


@pytest.mark.slow
@pytest.mark.skipif(not SERVED, reason="transformers serve needs fastapi, uvicorn and openai")
def test_wire_is_that_of_transformers_serve(planted: Bench, tmp_path: Path, served: str) -> None:
    writer = save_writer(tmp_path / "writer")
    options: dict[str, Any] = {
        "endpoint": served,
        "model": str(writer),
        "max_tokens": "16",
        "retries": "0",
        "concurrency": "2",
    }
    found = list(OpenAI().label(planted.label_request(DIGITS, CAPITALS, cached=False, **options)))
    assert {proposal.text for proposal in found} == {WRITTEN[1]}
    local = labels(planted, writer, DIGITS)[DIGITS]
    (wired,) = (proposal for proposal in found if proposal.feature == DIGITS)
    for name in ("tokens_in", "tokens_out"):
        assert abs(wired.provenance[name] - local.provenance[name]) <= 50, "its count and ours, another fence apart"
    noise = save_tiny(tmp_path / "noise", "llama", max_position_embeddings=16_384)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(noise)
    request = planted.label_request(DIGITS, cached=False, **{**options, "model": str(noise), "n_examples": "3"})
    (failed,) = OpenAI().label(request)
    assert failed.text is None
    assert "gave no usable answer" in str(failed.failed)
