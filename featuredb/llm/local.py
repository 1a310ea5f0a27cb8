"""A chat with a transformers model in memory: greedy, a batch at a time, the same answers at every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from featuredb.errors import BadInput
from featuredb.llm.answers import keepable
from featuredb.llm.chat import NoReply, Reply
from featuredb.llm.prompts import Messages, Question, settled_fence

if TYPE_CHECKING:
    import torch

    from featuredb.model import Model


class LocalChat:
    """Questions to one causal model. Raises NotFound where there is none, BadInput where it cannot write."""

    def __init__(self, source: str, *, max_tokens: int, batch_size: int, device: str = "auto") -> None:
        from featuredb.model import load_model

        self._loaded: Model = load_model(source, device=device)
        self._module = cast(Any, self._loaded.module)
        if not getattr(self._module, "can_generate", lambda: False)():
            raise BadInput(
                f"{source} cannot write text: it is a {self._loaded.architecture}", hint="name a causal model"
            )
        self._tokenizer = self._loaded.tokenizer
        self._batch_size = batch_size
        self.model = self._loaded.name
        self.max_tokens = max_tokens
        self._waiting: list[tuple[int, Question]] = []

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "endpoint": "transformers",
            "model": self._loaded.fingerprint,
            "template": self._template,
            "dtype": str(self._loaded.dtype),
            "max_tokens": self.max_tokens,
        }

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "fingerprint": self._loaded.fingerprint,
            "endpoint": "transformers",
            "chat_template": self._template is not None,
            "temperature": 0.0,
        }

    @property
    def room(self) -> int:
        return self._batch_size - len(self._waiting)

    def submit(self, ticket: int, question: Question) -> None:
        self._waiting.append((ticket, question))

    def collect(self) -> list[tuple[int, Reply | NoReply]]:
        waiting, self._waiting = self._waiting, []
        found: list[tuple[int, Reply | NoReply]] = []
        fitting: list[tuple[int, str, list[int]]] = []
        for ticket, question in waiting:
            fence = settled_fence(question)
            ids = self._ids(question.fenced(fence))
            longest = self._loaded.max_length
            if longest is not None and len(ids) + self.max_tokens > longest:
                reason = (
                    f"the prompt has {len(ids):,} tokens and the answer up to {self.max_tokens:,}, but {self.model} "
                )
                found.append((ticket, NoReply(f"{reason}reads {longest:,}")))
            else:
                fitting.append((ticket, fence, ids))
        if fitting:
            found += self._generate(fitting)
        return found

    def close(self) -> list[tuple[int, Reply | NoReply]]:
        self._waiting = []
        return []

    @property
    def _template(self) -> str | None:
        found = getattr(self._tokenizer, "chat_template", None)
        return None if found is None else str(found)

    def _ids(self, messages: Messages) -> list[int]:
        """The prompt's tokens: by the model's chat template, or as plain text that its answer would go on from."""
        if self._template is None:
            text = "\n\n".join(part for _, part in messages) + "\n\n"
            first = self._loaded.bos_id
            ids = [int(token) for token in self._loaded.encode_text(text)]
            return ids if first is None else [first, *ids]
        turns = [{"role": role, "content": text} for role, text in messages]
        try:
            return self._by_template(turns)
        except Exception as error:  # a template is a program, and raises what it likes
            if type(error).__name__ not in ("TemplateError", "UndefinedError"):
                raise
        # Some templates know no system turn.
        return self._by_template([{"role": "user", "content": "\n\n".join(text for _, text in messages)}])

    def _by_template(self, turns: list[dict[str, str]]) -> list[int]:
        text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        encoded = self._tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [int(token) for token in encoded["input_ids"]]

    def _generate(self, fitting: Sequence[tuple[int, str, list[int]]]) -> list[tuple[int, Reply | NoReply]]:
        import torch

        from featuredb.model.tokens import padding_id

        pad, longest = padding_id(self._tokenizer), max(len(ids) for _, _, ids in fitting)
        rows = torch.full((len(fitting), longest), pad, device=self._loaded.device)
        mask = torch.zeros_like(rows)
        for row, (_, _, ids) in enumerate(fitting):
            rows[row, longest - len(ids) :] = torch.tensor(ids, device=rows.device)
            mask[row, longest - len(ids) :] = 1
        with torch.inference_mode():
            written = self._module.generate(rows, attention_mask=mask, generation_config=self._greedy(pad))
        written = written[:, longest:].cpu()
        return [
            (ticket, self._reply(fence, len(ids), row))
            for (ticket, fence, ids), row in zip(fitting, written, strict=True)
        ]

    def _greedy(self, pad: int) -> Any:
        from transformers import GenerationConfig

        # What is not said here is taken from the model's own settings, which are meant for chatting.
        return GenerationConfig(
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            pad_token_id=pad,
            eos_token_id=self._ends(),
        )

    def _ends(self) -> list[int]:
        """Every token that ends an answer, the template's own among them."""
        configured = self._module.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        found = {int(token) for token in (*ends, self._tokenizer.eos_token_id) if token is not None}
        return sorted(found)

    def _reply(self, fence: str, n_in: int, row: torch.Tensor) -> Reply:
        tokens = row.tolist()
        ends = set(self._ends())
        n_out = next((number + 1 for number, token in enumerate(tokens) if token in ends), len(tokens))
        text = self._tokenizer.decode(tokens[:n_out], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cut_off = n_out == self.max_tokens and tokens[n_out - 1] not in ends
        return Reply(keepable(text, fence, cut_off), n_in, n_out)
