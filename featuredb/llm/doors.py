"""From a request's options to a chat and a purse, for the plugins that label and judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from featuredb.errors import BadInput
from featuredb.labels.answers import AnswerCache
from featuredb.labels.requests import LabelRequest, Proposal, Scored, ScoreRequest
from featuredb.llm.asking import answer_key
from featuredb.llm.budget import Estimate, Prices, Purse
from featuredb.llm.chat import Chat
from featuredb.llm.endpoint import EndpointChat
from featuredb.llm.judging import Judging
from featuredb.llm.labeling import MAX_TOKENS, Labeling
from featuredb.llm.prompts import Question
from featuredb.llm.settings import REMOTE_OPTIONS, read_endpoint, read_limits, read_purse, read_sampling, whole

LOCAL = "transformers"
"""Given as the endpoint, it means a model in memory."""

LOCAL_OPTIONS = ("model", "device", "batch_size", "max_tokens", "n_examples", "output_tokens")
LABEL_OPTIONS = (*REMOTE_OPTIONS, "output_tokens")
JUDGE_OPTIONS = (*REMOTE_OPTIONS, "batch", "device", "batch_size")


def label_by_endpoint(request: LabelRequest) -> Iterator[Proposal]:
    """Raises BadInput for options that cannot be used, before anything is sent."""
    labeling, purse = Labeling.of(request), read_purse(request.options)
    chat = _endpoint_chat(request.options, request.seed, MAX_TOKENS)
    yield from labeling.proposals(chat, purse)


def label_in_memory(request: LabelRequest) -> Iterator[Proposal]:
    labeling = Labeling.of(request)
    yield from labeling.proposals(_local_chat(request.options, MAX_TOKENS), Purse(Prices()))


def judge(request: ScoreRequest, scorer: Literal["detection", "fuzzing"]) -> Iterator[Scored]:
    """Raises BadInput for options that cannot be used, before anything is sent."""
    judging, purse = Judging.of(request, scorer), read_purse(request.options)
    if _is_local(request.options):
        chat: Chat = _local_chat(request.options, judging.max_tokens)
    else:
        chat = _endpoint_chat(request.options, request.seed, judging.max_tokens)
    yield from judging.scores(chat, purse)


def estimate_labels(request: LabelRequest, *, local: bool = False) -> Estimate:
    """What labeling would cost at most; needs no key and sends nothing."""
    return _estimate(Labeling.of(request), request, MAX_TOKENS, local)


def estimate_scores(request: ScoreRequest, scorer: Literal["detection", "fuzzing"]) -> Estimate:
    """What scoring would cost at most; needs no key and sends nothing."""
    judging = Judging.of(request, scorer)
    return _estimate(judging, request, judging.max_tokens, _is_local(request.options))


def _estimate(job: Labeling | Judging, request: LabelRequest | ScoreRequest, otherwise: int, local: bool) -> Estimate:
    options = request.options
    max_tokens = whole(options, "max_tokens", otherwise, 8, 100_000)
    if local:
        # Which answers are kept depends on the model's weights, which an estimate does not load.
        return job.estimate(Prices(), max_tokens, lambda questions: set())
    chat = _endpoint_chat(options, request.seed, otherwise, needs_key=False)
    prices = read_purse(options).prices
    return job.estimate(prices, max_tokens, lambda questions: _kept(chat, request.answers, questions))


def _kept(chat: Chat, answers: AnswerCache | None, questions: Sequence[Question]) -> set[Question]:
    """Those of the questions whose answers are kept."""
    if answers is None:
        return set()
    keys = {question: answer_key(chat, question) for question in questions}
    found = answers.get_many(keys.values())
    return {question for question, key in keys.items() if key in found}


def _endpoint_chat(options: Mapping[str, str], seed: int, max_tokens: int, *, needs_key: bool = True) -> EndpointChat:
    sampling = read_sampling(options, seed, max_tokens=max_tokens)
    return EndpointChat(read_endpoint(options, needs_key=needs_key), sampling, read_limits(options))


def _local_chat(options: Mapping[str, str], max_tokens: int) -> Chat:
    from featuredb.llm.local import LocalChat

    if not options.get("model"):
        raise BadInput("no model is named", hint="--option model=FOLDER, or a Hugging Face id")
    return LocalChat(
        options["model"],
        max_tokens=whole(options, "max_tokens", max_tokens, 8, 100_000),
        batch_size=whole(options, "batch_size", 8, 1, 1024),
        device=options.get("device", "auto"),
    )


def _is_local(options: Mapping[str, str]) -> bool:
    return options.get("endpoint") == LOCAL
