"""Pictures as tokens: a language model chooses the codes of a picture one by one, and a decoder turns them into pixels.

This stands in for the library's own loop, which tells nobody how far it is, cannot be stopped, and takes its random numbers
from the generator that everything shares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.deferred import Deferred, Driver

if TYPE_CHECKING:
    from torch import Tensor

MOST = 2  # requests under way at once: each holds a cache of its own, and is done no sooner for company
_SEEDS = (1 << 64) - 1
_OWN_ATTENTION = "sdpa"
_BLANK = 127


class PaintConfig(Struct, frozen=True, kw_only=True):
    """How one request's pictures are painted. ``guidance`` 1 is none; picture ``i`` has the seed ``seed + i``."""

    n: int = 1
    guidance: float = 5.0
    seed: int | None = None
    sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    partial_images: int = 0


Show = Callable[[t.ProgressDelta | t.PictureDelta], None]
Finish = Callable[[tuple[t.Picture, ...]], t.PictureResult]


class Painting(Deferred[t.PictureResult]):
    """One request's pictures; ``work`` does one step whenever it is resumed."""

    def __init__(self, driver: Driver, ctx: t.RunContext, work: Generator[None, None, t.PictureResult]) -> None:
        self.ended = False
        self._driver = driver
        self._ctx = ctx
        self._work = work
        self._result: t.PictureResult | None = None
        self._error: Exception | None = None

    @property
    def driver(self) -> Driver:
        return self._driver

    def poll(self) -> t.PictureResult | None:
        if self._error is not None:
            raise self._error
        return self._result

    def look(self) -> None:
        """Fail if nobody waits for it any more."""
        self._try(self._ctx.check)

    def resume(self) -> None:
        self._try(lambda: next(self._work))

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except StopIteration as end:
            self._result, self.ended = end.value, True
        except Exception as error:  # for whoever polls: the others are none the worse for it
            self._error, self.ended = error, True


class Painter:
    """Paints for one Janus. It belongs to the model's thread; a step is one code of each picture under way.

    Args:
        to_pictures: pixels as the model's decoder gives them, ``[pictures, height, width, 3]``, as pictures.
        kept: tokens of a prompt that remain where its words are left out; ``blank`` takes the others' places.
    """

    def __init__(
        self, model: Any, to_pictures: Callable[[Tensor], list[t.Picture]], *, kept: frozenset[int], blank: int
    ) -> None:
        self._model = model
        self._to_pictures = to_pictures
        self._kept = kept
        self._blank = blank
        self._waiting: deque[Painting] = deque()
        self._running: list[Painting] = []

    @property
    def codes(self) -> int:
        """Codes of one picture."""
        count: int = self._model.model.vision_model.config.num_image_tokens
        return count

    @property
    def side(self) -> int:
        """Pixels of a picture's side."""
        config = self._model.config.vq_config
        return int(config.num_patches * 2 ** (len(config.channel_multiplier) - 1))

    def submit(self, ids: tuple[int, ...], config: PaintConfig, ctx: t.RunContext, show: Show, finish: Finish) -> Painting:
        """Raises what ``ctx`` raises."""
        ctx.check()
        painting = Painting(self, ctx, self._paint(ids, config, ctx, show, finish))
        self._waiting.append(painting)
        return painting

    def step(self) -> None:
        import torch

        while self._waiting and len(self._running) < MOST:
            self._running.append(self._waiting.popleft())
        for painting in self._waiting:
            painting.look()
        self._waiting = deque(painting for painting in self._waiting if not painting.ended)
        with torch.inference_mode():
            for painting in self._running:
                painting.resume()
        self._running = [painting for painting in self._running if not painting.ended]

    # ------------------------------------------------------------ one request

    def _paint(
        self, ids: tuple[int, ...], config: PaintConfig, ctx: t.RunContext, show: Show, finish: Finish
    ) -> Generator[None, None, t.PictureResult]:
        import torch
        from transformers import DynamicCache

        generators = [_generator(config.seed, i) for i in range(config.n)]
        warp = _warpers(config)
        cache = DynamicCache(config=self._model.config.text_config)
        embeddings = self._model.get_input_embeddings()(self._prompt_rows(ids, config))
        codes = torch.zeros((config.n, self.codes), dtype=torch.long, device=self._model.device)
        partials = _moments(self.codes, config.partial_images)
        for done in range(self.codes):
            ctx.check()
            logits = guided(self._scores(embeddings, cache), config.guidance)
            chosen = choose(warp(logits), generators if config.sample else None)
            codes[:, done] = chosen
            show(t.ProgressDelta(done=done + 1, total=self.codes))
            if done + 1 in partials:
                self._show_partials(codes, done + 1, partials.index(done + 1), show)
            rows = chosen if config.guidance == 1 else torch.cat([chosen, chosen])
            embeddings = self._model.prepare_embeddings_for_image_generation(rows[:, None])
            yield
        pictures: list[t.Picture] = []
        for row in codes:
            ctx.check()
            pictures += self._to_pictures(self._model.decode_image_tokens(row[None]))
            yield
        return finish(tuple(pictures))

    def _prompt_rows(self, ids: tuple[int, ...], config: PaintConfig) -> Tensor:
        """The prompt for each picture, and below them, where there is guidance, as often without its words."""
        import torch

        worded = torch.tensor([ids] * config.n, dtype=torch.long, device=self._model.device)
        if config.guidance == 1:
            return worded
        kept = torch.isin(worded, torch.tensor(sorted(self._kept), device=self._model.device))
        return torch.cat([worded, worded.masked_fill(~kept, self._blank)])

    def _scores(self, embeddings: Tensor, cache: Any) -> Tensor:
        """The next code's logits. The text engine's attention is set aside meanwhile: this has a cache of its own."""
        config = self._model.config.text_config
        before = config._attn_implementation
        config._attn_implementation = _OWN_ATTENTION
        try:
            output = self._model.model.language_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
        finally:
            config._attn_implementation = before
        scores: Tensor = self._model.model.generation_head(output.last_hidden_state[:, -1]).float()
        return scores

    def _show_partials(self, codes: Tensor, done: int, number: int, show: Show) -> None:
        """What is not painted yet is grey."""
        pixels = self._model.decode_image_tokens(codes)
        rows = int(self._model.config.vq_config.num_patches)
        for index, picture in enumerate(self._to_pictures(pixels)):
            show(t.PictureDelta(index=index, picture=_blanked(picture, done // rows * picture.height // rows), partial=number))


def guided(scores: Tensor, guidance: float) -> Tensor:
    """``u + g (c - u)`` of the scores with the prompt's words, in the upper half, and without them."""
    if guidance == 1:
        return scores
    worded, wordless = scores.chunk(2)
    return wordless + guidance * (worded - wordless)


def choose(logits: Tensor, generators: list[Any] | None) -> Tensor:
    """A code a row: drawn, each by its own generator, or the likeliest."""
    import torch

    if generators is None:
        return logits.argmax(-1)
    chances = torch.softmax(logits, dim=-1).cpu()
    drawn = [torch.multinomial(row, 1, generator=generator) for row, generator in zip(chances, generators, strict=True)]
    return torch.cat(drawn).to(logits.device)


def _generator(seed: int | None, index: int) -> Any:
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed((seed + index) & _SEEDS)
    return generator


def _warpers(config: PaintConfig) -> Callable[[Tensor], Tensor]:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = LogitsProcessorList()
    if config.sample and config.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.sample and config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.sample and config.top_p < 1.0:
        warpers.append(TopPLogitsWarper(config.top_p))
    return lambda logits: warpers(None, logits)


def _moments(steps: int, partial_images: int) -> list[int]:
    """After which steps a partial picture is shown, evenly spread; none shows the finished picture."""
    count = min(partial_images, steps - 1)
    return [steps * (i + 1) // (count + 1) for i in range(count)]


def _blanked(picture: t.Picture, rows: int) -> t.Picture:
    kept = picture.pixels[: rows * picture.width * picture.channels]
    grey = bytes([_BLANK]) * (len(picture.pixels) - len(kept))
    return t.Picture(width=picture.width, height=picture.height, pixels=kept + grey, channels=picture.channels)
