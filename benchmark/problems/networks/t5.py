"""T5 (Raffel et al. 2020) by the library transformers, under the interface of the suite's translators."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from benchmark.cells import Problem
from benchmark.problems.hugging_face import STOP, architecture
from benchmark.tasks.symbols import PADDING


class T5(nn.Module):
    """T5 with its output layer tied to the embeddings; with T5's dropout of 0.1 in training.

    Modules and names are those of transformers, so that its files fit.
    """

    left_out = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.",)
    """Of weights that are brought along: the first T5's have it, and no network uses it."""

    whole: Any
    """The T5 of transformers that the modules belong to."""

    def __init__(self, problem: Problem):
        super().__init__()
        sizes = architecture(problem.width, problem.depth, problem.classes)
        symbols = {"decoder_start_token_id": PADDING, "pad_token_id": PADDING, "eos_token_id": STOP}
        whole = T5ForConditionalGeneration(T5Config(**sizes, **symbols))
        self.shared, self.encoder, self.decoder = whole.shared, whole.encoder, whole.decoder
        self.lm_head = whole.lm_head
        object.__setattr__(self, "whole", whole)  # no module of this one, whose names would all begin with "whole."

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source: int64 (b, s); target: int64 (b, t), from its start on; returns logits (b, t, classes) of what
        follows each symbol of the target."""
        mask = (source != PADDING).long()
        output = self.whole(input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False)
        logits: Tensor = output.logits
        return logits

    def generate(self, source: Tensor, length: int, start: int, stop: int) -> Tensor:
        """The most likely symbol after each other, from `start` until every sentence has had a `stop`.

        source: int64 (b, s); returns int64 (b, n), n <= length, without the start. What follows a stop is padding.
        """
        output: Tensor = self.whole.generate(
            source,
            attention_mask=(source != PADDING).long(),
            max_new_tokens=length,
            do_sample=False,
            num_beams=1,
            decoder_start_token_id=start,
            eos_token_id=stop,
            pad_token_id=PADDING,
        )
        return output[:, 1:]
