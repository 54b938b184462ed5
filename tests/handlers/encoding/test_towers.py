"""CLIP and SigLIP against the library's own processor and features."""

from __future__ import annotations

import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from handlers import types as t
from handlers.deferred import complete
from handlers.pixels import from_pil
from openai_compat.errors import UnsupportedCapability

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
WHOLE = {"clip": "CLIPModel", "siglip": "SiglipModel"}


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (50, 40)) -> Image.Image:
    torch.manual_seed(seed)
    pixels = torch.randint(0, 255, (size[1], size[0], 3), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).convert(mode)


def vectors(outcome) -> torch.Tensor:
    found = complete(outcome).vectors
    return torch.stack([torch.frombuffer(bytearray(vector), dtype=torch.float32) for vector in found])


def unit(matrix: torch.Tensor) -> torch.Tensor:
    return matrix / matrix.norm(dim=-1, keepdim=True)


def text_features(folder, family: str, texts) -> torch.Tensor:
    model = getattr(transformers, WHOLE[family]).from_pretrained(folder).eval()
    padding = {"padding": "max_length", "max_length": 24} if family == "siglip" else {"padding": True}
    batch = AutoTokenizer.from_pretrained(folder)(list(texts), return_tensors="pt", **padding)
    names = ["input_ids"] if family == "siglip" else ["input_ids", "attention_mask"]
    with torch.no_grad():
        return unit(model.get_text_features(**{name: batch[name] for name in names}).pooler_output)


def image_features(folder, family: str, images) -> torch.Tensor:
    model = getattr(transformers, WHOLE[family]).from_pretrained(folder).eval()
    batch = AutoImageProcessor.from_pretrained(folder)(images=list(images), return_tensors="pt")
    with torch.no_grad():
        return unit(model.get_image_features(**batch).pooler_output)


@pytest.mark.parametrize("family", WHOLE)
def test_texts_pictures_and_pairs_have_the_library_s_vectors(
    tower_saver, embedding_loader, sentences, collector, tmp_path, family
):
    folder = tower_saver(tmp_path, family)
    handler = embedding_loader(folder)
    images = [picture(i) for i in range(len(sentences))]
    data = tuple(map(from_pil, images))
    texts = text_features(folder, family, sentences)
    pictures = image_features(folder, family, images)
    ctx = collector()
    torch.testing.assert_close(vectors(handler.embed_text(t.EmbedRequest(texts=sentences), ctx)), texts, **CLOSE)
    torch.testing.assert_close(vectors(handler.embed_image(t.EmbedRequest(images=data), ctx)), pictures, **CLOSE)
    both = vectors(handler.embed_multimodal(t.EmbedRequest(texts=sentences, images=data), ctx))
    torch.testing.assert_close(both, unit(texts + pictures), **CLOSE)


@pytest.mark.parametrize(
    ("family", "head", "verb"),
    [
        ("clip", "CLIPTextModelWithProjection", "embed_text"),
        ("clip", "CLIPVisionModelWithProjection", "embed_image"),
        ("siglip", "SiglipTextModel", "embed_text"),
        ("siglip", "SiglipVisionModel", "embed_image"),
    ],
)
def test_one_side_alone_has_its_own_verb_only(tower_saver, embedding_loader, collector, tmp_path, family, head, verb):
    handler = embedding_loader(tower_saver(tmp_path, family, head=head))
    assert handler.get_model_capabilities(handler.spec) - {"tokenize_text"} == {verb}
    requests = {"embed_text": t.EmbedRequest(texts=("the fox",)), "embed_image": t.EmbedRequest(images=(from_pil(picture(1)),))}
    assert vectors(getattr(handler, verb)(requests.pop(verb), collector())).norm() == pytest.approx(1)
    ((other, request),) = requests.items()
    with pytest.raises(UnsupportedCapability):
        getattr(handler, other)(request, collector())


def test_one_side_alone_gives_the_projection_of_the_whole(tower_saver, embedding_loader, collector, tmp_path):
    model = transformers.CLIPModel.from_pretrained(tower_saver(tmp_path / "whole", "clip"))
    side = tower_saver(tmp_path / "side", "clip", head="CLIPVisionModelWithProjection")
    own = transformers.CLIPVisionModelWithProjection.from_pretrained(side)
    own.vision_model.load_state_dict(model.vision_model.state_dict())
    own.visual_projection.load_state_dict(model.visual_projection.state_dict())
    own.save_pretrained(side)
    request = t.EmbedRequest(images=(from_pil(picture(3)),))
    one = vectors(embedding_loader(tmp_path / "whole").embed_image(request, collector()))
    other = vectors(embedding_loader(side).embed_image(request, collector()))
    torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_of_every_number_of_channels_are_read(tiny_clip, collector, mode):
    image = picture(1, mode)
    found = vectors(tiny_clip.embed_image(t.EmbedRequest(images=(from_pil(image),)), collector()))
    torch.testing.assert_close(found, image_features(tiny_clip.spec.path, "clip", [image.convert("RGB")]), **CLOSE)


def test_a_text_does_not_wait_for_all_large_pictures_of_another(tiny_clip, collector):
    large = from_pil(Image.new("RGB", (4000, 3000)))
    pictures = tiny_clip.embed_image(t.EmbedRequest(images=(large,) * 4), collector())
    pictures.driver.step()
    text = tiny_clip.embed_text(t.EmbedRequest(texts=("the fox",)), collector())
    text.driver.step()
    assert text.poll() is not None
    assert pictures.poll() is None
    assert len(complete(pictures).vectors) == 4
