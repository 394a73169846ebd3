"""How fast texts grow with llama.cpp, without a server.

    .venv-llama/bin/python -m benchmarks.llama_cpp MODEL.gguf SECONDS

A worker of `benchmarks.generator`. Texts begin and end together; their prompts are computed in one
go, and in every step after that each gets its likeliest token.
"""

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from itertools import islice

import llama_cpp
import numpy as np

from benchmarks.prompts import NEW_TOKENS, prompts
from benchmarks.speed import Speed
from benchmarks.workers import answer

_ROOM = 128  # for a prompt and its text


class Model:
    """A GGUF file, loaded.

    Args:
        file: Its path.
    """

    def __init__(self, file: str) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            file.encode(), llama_cpp.llama_model_default_params()
        )
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._prompts = map(self._tokens, prompts())

    def measure(self, streams: int, seconds: float) -> Speed:
        """Let so many texts grow, again and again for some seconds."""
        texts = Texts(self._model, self._vocabulary, streams)
        try:
            texts.grow(list(islice(self._prompts, streams)), 2)  # sets up what is set up lazily
            steps: list[list[float]] = []
            begin = time.perf_counter()
            while (elapsed := time.perf_counter() - begin) < seconds:
                steps.append(texts.grow(list(islice(self._prompts, streams)), NEW_TOKENS))
        finally:
            texts.close()
        firsts = [first for first, *_ in steps]
        gaps = [gap for _, *mine in steps for gap in mine]
        return Speed.of(len(steps) * streams * NEW_TOKENS, elapsed, firsts, gaps)

    def _tokens(self, text: str) -> list[int]:
        encoded = text.encode()
        ids = (llama_cpp.llama_token * _ROOM)()
        # The last two: add the special tokens around it, and read those in it.
        count = llama_cpp.llama_tokenize(
            self._vocabulary, encoded, len(encoded), ids, _ROOM, True, True
        )
        return list(ids[:count])


class Texts:
    """Texts that grow together, in a context of their own."""

    def __init__(self, model: object, vocabulary: object, streams: int) -> None:
        self._vocabulary_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_seq_max = streams
        parameters.n_ctx = parameters.n_batch = streams * _ROOM
        parameters.n_threads = parameters.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = llama_cpp.llama_init_from_model(model, parameters)
        self._batch = llama_cpp.llama_batch_init(streams * _ROOM, 0, 1)

    def grow(self, prompts: Sequence[list[int]], tokens: int) -> list[float]:
        """Let texts of so many tokens follow prompts.

        Returns:
            The seconds of each step, in the first of which the prompts are computed.
        """
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        seconds = []
        new = prompts
        lengths = [0] * len(prompts)
        for _ in range(tokens):
            begin = time.perf_counter()
            ends = self._fill(new, lengths)
            if llama_cpp.llama_decode(self._context, self._batch):
                raise RuntimeError("llama.cpp could not decode")
            lengths = [length + len(mine) for length, mine in zip(lengths, new, strict=True)]
            new = [[token] for token in self._likeliest(ends)]
            seconds.append(time.perf_counter() - begin)
        return seconds

    def close(self) -> None:
        """Release the context."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def _fill(self, new: Sequence[list[int]], lengths: Sequence[int]) -> list[int]:
        """Put the new tokens of each text into the batch; gives where each text's last one is."""
        batch, row, ends = self._batch, 0, []
        for text, (tokens, length) in enumerate(zip(new, lengths, strict=True)):
            for place, token in enumerate(tokens, length):
                batch.token[row], batch.pos[row] = token, place
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, text
                batch.logits[row] = False
                row += 1
            batch.logits[row - 1] = True
            ends.append(row - 1)
        batch.n_tokens = row
        return ends

    def _likeliest(self, rows: Iterable[int]) -> list[int]:
        shape = (self._vocabulary_size,)
        return [
            int(np.argmax(np.ctypeslib.as_array(logits, shape)))
            for logits in (llama_cpp.llama_get_logits_ith(self._context, row) for row in rows)
        ]


def main() -> None:
    """Answer the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    model = Model(options.model)
    answer(lambda streams: model.measure(streams, options.seconds))


if __name__ == "__main__":
    main()
