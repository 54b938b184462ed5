"""What clients see when things go wrong: a killed worker, clients that leave, models that do not fit together."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionMessageParam

STORY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Write a long story about the sea."}]


def workers(server: Any) -> list[psutil.Process]:
    """The processes that hold models: children of the fork server, and none of what they start themselves."""
    found = [worker for own in children(server.process) for worker in children(own)]
    return [process for process in found if is_worker(process)]


def children(process: Any) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def is_worker(process: psutil.Process) -> bool:
    try:
        return "openai_compat.worker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def ask(client: openai.OpenAI, model: str, text: str = "Hi", **fields: Any) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], temperature=0, **{"max_tokens": 4, **fields}
    )
    return answer.choices[0].message.content or ""


@pytest.fixture
def two_models(start_server: Any, tmp_path: Path, model_source: str) -> Any:
    """A server with the same model under two names and room for one of them."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[memory]\nhost = "1200MiB"\n\n[models.first]\n{model_source}memory = "800MiB"\n'
        f'\n[models.second]\n{model_source}memory = "800MiB"\n'
    )
    return start_server(config)


def test_a_killed_worker_is_an_error_event_and_the_next_request_is_answered(
    server: Any, client: openai.OpenAI, model: str
) -> None:
    ask(client, model)
    before = workers(server)
    stream = client.chat.completions.create(model=model, messages=STORY, max_tokens=500, stream=True)
    seen = [next(stream) for _ in range(5)]
    for worker in before:
        worker.kill()
    with pytest.raises(openai.APIError) as caught:
        seen += stream
    assert caught.value.code == "worker_died"
    assert ask(client, model)
    assert server.process.poll() is None
    assert not {worker.pid for worker in workers(server)} & {worker.pid for worker in before}


def test_a_client_that_leaves_a_stream_frees_the_model_for_the_next(client: openai.OpenAI, model: str) -> None:
    began = time.perf_counter()
    ask(client, model, "Write a long story about the sea.", max_tokens=200)
    whole = time.perf_counter() - began
    stream = client.chat.completions.create(model=model, messages=STORY, max_tokens=2000, stream=True)
    for _, _ in zip(range(3), stream, strict=False):
        pass
    stream.close()
    assert seconds_to_answer(client, model) < whole / 2


def test_a_client_that_leaves_before_a_whole_answer_frees_the_model_for_the_next(client: openai.OpenAI, model: str) -> None:
    began = time.perf_counter()
    ask(client, model, "Write a long story about the sea.", max_tokens=200)
    whole = time.perf_counter() - began
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model=model, messages=STORY, max_tokens=2000)
    assert seconds_to_answer(client, model) < whole / 2


@pytest.mark.slow
def test_two_models_that_do_not_fit_together_take_turns(two_models: Any) -> None:
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, len(workers(two_models)))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with openai.OpenAI(base_url=two_models.base_url, api_key="none", max_retries=0) as client:
        turns = ("first", "second", "first", "second")
        answers = [ask(client, name, "What is the capital of France?", max_tokens=10) for name in turns]
    done.set()
    watcher.join()
    assert answers == ["The capital of France is Paris."] * 4
    assert most == 1


def test_a_model_that_can_never_fit_is_refused_with_both_numbers(start_server: Any, tmp_path: Path, model_source: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[memory]\nhost = "100MiB"\n\n[models.large]\n{model_source}')
    running = start_server(config)
    with (
        openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=2) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        ask(client, "large")
    assert caught.value.status_code == 503
    assert caught.value.code == "insufficient_memory"
    assert "100 MiB" in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_many_streams_at_once_are_all_complete_and_none_is_mixed_up(client: openai.OpenAI, model: str) -> None:
    topics = ["rivers", "bread", "the moon", "bicycles", "glass", "bees", "chess", "paper"]
    alone = {topic: ask(client, model, f"Say something about {topic}.", max_tokens=6) for topic in topics}

    def stream(number: int) -> tuple[str, str]:
        topic = topics[number % len(topics)]
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Say something about {topic}."}]
        events = client.chat.completions.create(model=model, messages=messages, max_tokens=6, temperature=0, stream=True)
        return topic, "".join(chunk.choices[0].delta.content or "" for chunk in events)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(stream, range(32)))
    assert len(set(alone.values())) > len(topics) // 2
    assert [text for _, text in answers] == [alone[topic] for topic, _ in answers]


def test_the_installed_command_works_among_folders_of_its_own_names(
    start_server: Any, tmp_path: Path, model_source: str
) -> None:
    for name in ("handlers", "routes", "schemas", "openai_compat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong folder')")
    config = tmp_path / "config.toml"
    config.write_text(f"[models.small]\n{model_source}")
    running = start_server(config, cwd=tmp_path)
    with openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0) as client:
        assert "Paris" in ask(client, "small", "What is the capital of France?", max_tokens=10)


def seconds_to_answer(client: openai.OpenAI, model: str) -> float:
    began = time.perf_counter()
    ask(client, model, max_tokens=1)
    return time.perf_counter() - began
