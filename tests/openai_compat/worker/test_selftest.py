import math
import struct

import pytest

from handlers.base import BaseHandler
from handlers.types import EmbedResult, ModelSpec, TextChoice, TextResult, Usage
from openai_compat.errors import ModelUnavailable
from openai_compat.worker.selftest import self_test

SPEC = ModelSpec(id="m", path="", kind="test")


class Silent(BaseHandler):
    def load_model(self, report) -> None: ...

    def apply_mode_settings(self, request):
        return request


class Text(Silent):
    result = TextResult(choices=(TextChoice(index=0, text="a", finish_reason="length"),), usage=Usage())

    def generate_text(self, request, ctx):
        self.asked = request
        ctx.check()
        return self.result


class Embed(Silent):
    vectors = (struct.pack("2f", 0.5, 0.5),)

    def embed_text(self, request, ctx):
        return EmbedResult(vectors=self.vectors)


def test_a_text_model_answers_one_token():
    handler = Text(SPEC)
    self_test(handler)
    assert handler.asked.sampling.max_tokens == 1


def test_a_verb_that_the_checkpoint_lacks_is_not_asked():
    class Deaf(Text):
        @classmethod
        def get_model_capabilities(cls, spec):
            return frozenset()

    handler = Deaf(SPEC)
    self_test(handler)
    assert not hasattr(handler, "asked")


def test_a_model_without_a_cheap_verb_passes():
    self_test(Silent(SPEC))


@pytest.mark.parametrize("vectors", [(), (b"",), (struct.pack("2f", math.nan, 1.0),), (struct.pack("f", math.inf),)])
def test_an_embedding_of_nothing_or_nonsense_fails(vectors):
    handler = Embed(SPEC)
    self_test(handler)
    handler.vectors = vectors
    with pytest.raises(ModelUnavailable):
        self_test(handler)


def test_a_text_without_a_choice_fails():
    handler = Text(SPEC)
    handler.result = TextResult(choices=(), usage=Usage())
    with pytest.raises(ModelUnavailable):
        self_test(handler)


def test_an_exception_fails_without_telling_what_it_was():
    handler = Text(SPEC)
    handler.generate_text = lambda request, ctx: 1 / 0
    with pytest.raises(ModelUnavailable) as caught:
        self_test(handler)
    assert "division" not in caught.value.message
