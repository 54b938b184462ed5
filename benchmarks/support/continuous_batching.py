"""Transformers' own continuous batching, as a peer in the same process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.utils import WorkloadHints

STEP_TOKENS = 4096
PAGE = 256
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"use_cuda_graph": True},
    {"use_cuda_graph": True, "use_async_batching": True},
    {"auto_switch_to_flash": False},
    {"auto_switch_to_flash": False, "use_cuda_graph": True},
)
Prompts = list[list[int]]
Answer = Callable[[Prompts], None]
"""Runs prompts to the end of their answers."""


class Task(NamedTuple):
    """Tokens of each prompt and each answer."""

    prompt: int
    tokens: int

    @property
    def whole(self) -> int:
        return self.prompt + self.tokens + 1


def sure(true: bool, what: Any) -> None:
    if not true:
        raise RuntimeError(what)


def timed(answer: Answer, prompts: Prompts) -> float:
    """Seconds until the last token is on the host."""
    began = time.perf_counter()
    answer(prompts)
    return time.perf_counter() - began


@contextmanager
def peer(model: Any, setting: dict[str, Any], batch: int, task: Task) -> Iterator[tuple[Answer, str]]:
    """Transformers' own engine, running, and how it is set."""
    greedy = GenerationConfig(do_sample=False, max_new_tokens=task.tokens, eos_token_id=-1, pad_token_id=0)
    blocks = 2 * batch * -(-task.whole // PAGE) + 8
    told = ContinuousBatchingConfig(num_blocks=blocks, page_size=PAGE, max_batch_tokens=STEP_TOKENS, **setting)
    hints = WorkloadHints(max_prompt_length=task.prompt, max_generated_length=task.tokens, num_requests=batch)
    with model.continuous_batching_context_manager(greedy, continuous_batching_config=told, workload_hints=hints) as manager:

        def answer(prompts: Prompts) -> None:
            manager.add_requests(prompts, max_new_tokens=task.tokens)
            left = len(prompts)
            while left:
                found = manager.get_result(timeout=1)
                sure(found is not None or manager.is_running(), "its loop has ended")
                if found is not None and found.is_finished():
                    sure(found.error is None, found.error)
                    sure(len(found.generated_tokens) == task.tokens, "an answer is short")
                    left -= 1

        is_set = manager.continuous_batching_config
        graphs = "graphs" if any(is_set.use_cuda_graph) else "no graphs"
        waits = "ahead" if is_set.use_async_batching else "not ahead"
        yield answer, f"{model.config._attn_implementation}, {graphs}, {waits}"


def best_setting(model: Any, batch: int, task: Task, draw: Callable[[int], Prompts]) -> dict[str, Any] | None:
    """The fastest that works, after a round of warming up; None where none does. On a processor only the usual one is tried."""
    settings = SETTINGS if model.device.type == "cuda" else SETTINGS[:1]
    found: list[tuple[float, int]] = []
    for number, setting in enumerate(settings):
        try:
            with peer(model, setting, batch, task) as (answer, described):
                seconds = [timed(answer, draw(batch)) for _ in range(2)][-1]
        except Exception as error:
            print(f"  transformers cannot be set to {setting}: {type(error).__name__} {str(error)[:100]}", file=sys.stderr)
            continue
        print(f"  transformers, {described}: {batch * task.tokens / seconds:.1f} tokens/s", file=sys.stderr, flush=True)
        found.append((seconds, number))
    return settings[min(found)[1]] if found else None
