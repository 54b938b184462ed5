"""What every registered handler must keep."""

from __future__ import annotations

import inspect
import subprocess
import sys
from string import Formatter

import pytest
from msgspec.structs import replace

from handlers import types as t
from handlers.audio import AudioHandler
from handlers.audio_families import Backend
from handlers.base import BaseHandler
from handlers.deferred import complete
from handlers.diffusion import DiffusionHandler
from handlers.echo import EchoHandler
from handlers.echo_media import plain
from handlers.painting.pictures import Drawn
from handlers.painting.video import Take
from handlers.registry import KINDS, resolve
from openai_compat.errors import UnsupportedCapability

FACTS = ("get_dependencies", "get_system_dependencies", "analyze", "validate_model_files", "get_model_capabilities")
PIPELINE = ("load_model", "validate_inputs", "prepare_inputs", "get_generation_config", "postprocess_outputs")
MODES = ("get_supported_modes", "get_mode_descriptions", "apply_mode_settings")
SPEC = t.ModelSpec(id="x", path="/nowhere", kind="x")
TEXT = t.TextRequest(
    messages=(t.Message(role="user", parts=(t.TextPart(text="The fox"),)),),
    sampling=t.Sampling(max_tokens=6, temperature=0.0, ignore_eos=True),
)
DOT = t.Picture(width=1, height=1, pixels=b"\0\0\0")
PICTURE = t.Message(role="user", parts=(t.TextPart(text="see"), t.ImagePart(picture=DOT)))
SQUARE = plain(8, 8, (200, 10, 30))
REQUESTS: dict[str, t.Request] = {
    "generate_text": TEXT,
    "generate_image": t.ImageRequest(prompt="x", stream=True, partial_images=1),
    "generate_audio": t.SpeechRequest(text="x"),
    "generate_video": t.VideoRequest(prompt="x"),
    "process_image": t.ImageTaskRequest(picture=DOT, task="classify"),
    "process_audio": t.AudioTaskRequest(audio=t.Sound(pcm=b"xx", rate=16_000), task="transcribe"),
    "process_multimodal": t.TextRequest(messages=(PICTURE,)),
    "embed_text": t.EmbedRequest(texts=("x",)),
    "embed_image": t.EmbedRequest(images=(SQUARE,)),
    "embed_multimodal": t.EmbedRequest(texts=("x",), images=(SQUARE,)),
    "rank_text": t.RankRequest(query="x", documents=("x", "y")),
    "classify_text": t.ClassifyRequest(texts=("x",)),
    "tokenize_text": t.TokenRequest(text="x"),
}
STREAMING = {"generate_text", "generate_image", "generate_audio", "generate_video", "process_audio", "process_multimodal"}
AT_ONCE = ("vision", "process_multimodal")
PAIRS = [(kind, verb) for kind in KINDS for verb in t.VERBS if verb in resolve(kind).overridden_verbs()]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_verb = pytest.mark.parametrize(("kind", "verb"), PAIRS)


@pytest.fixture
def loaded(tiny, tiny_encoder, tiny_clip, tiny_ranker, tiny_classifier, tiny_judge, tiny_llava, tiny_janus):
    """A fresh loaded instance of any kind that has the verb, so that a test may change its methods."""

    encoders = {"embed_text": tiny_encoder, "rank_text": tiny_ranker}
    models = {"transformer": tiny, "multimodal": tiny_llava, "janus": tiny_janus, "vision": tiny_classifier}
    models["classifier"] = tiny_judge

    def make(kind: str, verb: str = "generate_text") -> BaseHandler:
        made = {"echo": _echo, "audio": _audio, "diffusion": _diffusion}
        if kind in made:
            return made[kind]()
        model = encoders.get(verb, tiny_clip) if kind == "embedding" else models[kind]
        copy = object.__new__(type(model))
        copy.__dict__.update(model.__dict__)
        return copy

    return make


def _echo() -> EchoHandler:
    handler = EchoHandler(SPEC)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


class DuplexBackend(Backend):
    """Hears and speaks the number that it is given, so that one backend shows both verbs."""

    def prepare(self, request: t.Request) -> int:
        return 1

    def hear(self, inputs: int, config: None, ctx: t.RunContext) -> t.TranscriptResult:
        ctx.emit(t.TextDelta(index=0, text=str(inputs)))
        return t.TranscriptResult(text=str(inputs))

    def speak(self, inputs: int, config: None, ctx: t.RunContext) -> t.SoundResult:
        ctx.emit(t.SoundDelta(sound=t.Sound(pcm=bytes(inputs), rate=16_000)))
        return t.SoundResult(seconds=inputs)


def _audio() -> AudioHandler:
    handler = AudioHandler(SPEC)
    handler._backend, handler._verbs = DuplexBackend(), ("process_audio", "generate_audio")
    return handler


class Brush:
    """Draws and films the number that it is given."""

    def prepare(self, request: t.Request) -> int:
        return 1

    def settings(self, request: t.Request) -> None: ...

    def draw(self, inputs: int, config: None, ctx: t.RunContext) -> Drawn:
        ctx.emit(t.ProgressDelta(done=inputs, total=9))
        return Drawn((), inputs)

    def film(self, inputs: int, config: None, ctx: t.RunContext) -> Take:
        ctx.emit(t.ProgressDelta(done=inputs, total=9))
        return Take(0, 8.0, inputs)


def _diffusion() -> DiffusionHandler:
    handler = DiffusionHandler(SPEC)
    handler._painter = handler._filmer = Brush()  # type: ignore[assignment]
    handler._verbs = frozenset({"generate_image", "generate_video"})
    return handler


@every_kind
def test_its_public_methods_are_exactly_the_interface(kind: str) -> None:
    public = {name for name, value in inspect.getmembers(resolve(kind), callable) if not name.startswith("_")}
    assert public == {*FACTS, *PIPELINE, *MODES, *t.VERBS, "overridden_verbs"}


@every_kind
def test_its_signatures_are_the_base_s(kind: str) -> None:
    for name in (*FACTS, *PIPELINE, *MODES, *t.VERBS):
        own = inspect.signature(getattr(resolve(kind), name))
        base = inspect.signature(getattr(BaseHandler, name))
        assert list(own.parameters) == list(base.parameters), name


@every_kind
def test_facts_are_read_without_loading(kind: str) -> None:
    cls = resolve(kind)
    assert cls.get_model_capabilities(SPEC) <= cls.overridden_verbs()
    assert all(isinstance(name, str) for name in cls.get_dependencies(SPEC) + cls.get_system_dependencies(SPEC))


@every_kind
def test_each_verb_it_lacks_says_so(kind: str, collector) -> None:
    handler = resolve(kind)(SPEC)
    for verb in set(t.VERBS) - handler.overridden_verbs():
        with pytest.raises(UnsupportedCapability):
            getattr(handler, verb)(REQUESTS[verb], collector())


@every_kind
def test_its_table_of_modes_is_complete(kind: str) -> None:
    cls = resolve(kind)
    assert "auto" in cls.modes
    assert cls.get_supported_modes() == tuple(cls.modes)
    for name, mode in cls.modes.items():
        assert cls.get_mode_descriptions()[name].endswith(".")
        assert mode.output
        used = {field for text in (mode.template, mode.system_prompt) for _, field, _, _ in Formatter().parse(text or "")}
        assert used - {None} == {*mode.variables, *(["input"] if mode.template else [])}, name
        assert "{input}" not in (mode.system_prompt or "")


@every_kind
def test_importing_its_module_brings_no_heavy_library(kind: str) -> None:
    module = KINDS[kind].partition(":")[0]
    code = f"import {module}, sys; print({{'torch', 'transformers', 'diffusers', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@every_verb
def test_prepare_inputs_is_on_the_live_path(loaded, collector, monkeypatch, kind: str, verb: str) -> None:
    handler = loaded(kind, verb)
    before = complete(getattr(handler, verb)(REQUESTS[verb], collector()))
    prepare = handler.prepare_inputs

    def other(request: t.Request):
        inputs = prepare(request)
        if kind == "echo":
            return replace(inputs, texts=tuple(f"{text} and more" for text in inputs.texts), counts=(77,))
        if kind in ("audio", "diffusion"):
            return inputs + 1
        if kind == "classifier" and verb == "classify_text":
            return [[*windows, handler._model.reader.window_items("the lazy fox")[0]] for windows in inputs]
        if kind in ("embedding", "classifier"):
            return [*inputs, *inputs]
        if kind == "vision":
            return [replace(item, inputs=replace(item.inputs, picture=SQUARE)) for item in inputs]
        return tuple(replace(prompt, ids=(*prompt.ids, 50, 60), limit=3) for prompt in inputs)

    monkeypatch.setattr(handler, "prepare_inputs", other)
    assert complete(getattr(handler, verb)(REQUESTS[verb], collector())) != before


@every_verb
def test_postprocess_outputs_is_on_the_live_path_of_results_and_deltas(loaded, collector, monkeypatch, kind, verb) -> None:
    handler = loaded(kind, verb)
    process = handler.postprocess_outputs
    seen: list[object] = []

    def other(raw: object, request: t.Request) -> tuple[str, object]:
        seen.append(process(raw, request))
        return "changed", seen[-1]

    monkeypatch.setattr(handler, "postprocess_outputs", other)
    ctx = collector()
    result = complete(getattr(handler, verb)(REQUESTS[verb], ctx))
    assert result == ("changed", seen[-1])
    assert bool(ctx.deltas) == (verb in STREAMING and (kind, verb) != AT_ONCE)
    assert all(delta[0] == "changed" for delta in ctx.deltas)


@pytest.mark.parametrize("kind", [kind for kind, verb in PAIRS if verb == "generate_text"])
def test_get_generation_config_is_on_the_live_path(loaded, collector, monkeypatch, kind: str) -> None:
    handler = loaded(kind)
    config = handler.get_generation_config
    monkeypatch.setattr(handler, "get_generation_config", lambda request: replace(config(request), stop=("e",)))
    result = complete(handler.generate_text(TEXT, collector()))
    assert "e" not in result.choices[0].text


@pytest.mark.parametrize("kind", [kind for kind, verb in PAIRS if verb == "generate_text"])
def test_the_stream_joined_is_the_answer(loaded, collector, kind: str) -> None:
    ctx = collector()
    result = complete(loaded(kind).generate_text(TEXT, ctx))
    assert ctx.text() == result.choices[0].text != ""


@every_verb
def test_every_verb_looks_whether_it_is_still_wanted(loaded, collector, kind: str, verb: str) -> None:
    with pytest.raises(InterruptedError):
        complete(getattr(loaded(kind, verb), verb)(REQUESTS[verb], collector(checks=0, error=InterruptedError)))
