from __future__ import annotations

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from handlers.decoding.detokenizer import ByteDetokenizer, WindowDetokenizer, detokenizer
from handlers.decoding.vocabulary import Vocabulary

TEXT = "naïve café 😀👩‍👩‍👧 日本語 🎉 plain"


def test_byte_level_pieces_join_to_the_text_and_never_hold_half_a_code_point(tiny) -> None:
    vocabulary = Vocabulary(tiny._lm.vocabulary.tokenizer)
    ids = vocabulary.tokenizer.encode(TEXT, add_special_tokens=False)
    assert len(ids) > len(TEXT.split())
    stream = detokenizer(vocabulary)
    assert isinstance(stream, ByteDetokenizer)
    pieces = [stream.feed(number) for number in ids]
    assert "".join(pieces) == TEXT
    assert not any("�" in piece for piece in pieces)
    assert "" in pieces


def test_bytes_that_are_no_text_become_replacement_characters_as_the_tokenizer_has_it(tiny) -> None:
    vocabulary = tiny._lm.vocabulary
    ids = [n for n in range(vocabulary.tokenizer.vocab_size) if vocabulary.token_bytes(n) in (b"\xff", b"a", b"\x80")]
    stream = ByteDetokenizer(vocabulary)
    assert "".join(map(stream.feed, ids * 3)) == vocabulary.tokenizer.decode(ids * 3)


def test_control_tokens_are_not_part_of_the_text(tiny) -> None:
    stream = ByteDetokenizer(tiny._lm.vocabulary)
    assert stream.feed(2) == ""


def pieces_tokenizer() -> Vocabulary:
    pieces = ["<unk>", "▁Hello", "▁world", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))


def test_pieces_with_byte_fallback_join_to_the_text() -> None:
    vocabulary = pieces_tokenizer()
    ids = [1, 2, *(3 + byte for byte in "😀".encode())]
    stream = detokenizer(vocabulary)
    assert [stream.feed(number) for number in ids] == [" Hello", " world", "", "", "", "😀"]


def test_other_tokenizers_are_decoded_beside_their_neighbours() -> None:
    words = {"[UNK]": 0, "play": 1, "##ing": 2, "now": 3}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))
    stream = detokenizer(vocabulary)
    assert isinstance(stream, WindowDetokenizer)
    ids = [1, 2, 3] * 10
    assert "".join(map(stream.feed, ids)) == vocabulary.tokenizer.decode(ids)


def test_every_token_has_its_bytes(tiny) -> None:
    vocabulary = tiny._lm.vocabulary
    ids = vocabulary.tokenizer.encode("é", add_special_tokens=False)
    assert b"".join(map(vocabulary.token_bytes, ids)) == "é".encode()
    assert vocabulary.token_bytes(2) == b"<|im_end|>"
    assert vocabulary.token_bytes(10**6) == b""
