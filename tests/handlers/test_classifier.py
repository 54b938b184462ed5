"""Classifiers of texts, against the library's own pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from handlers import types as t
from handlers.classifier import ClassifierHandler
from handlers.deferred import complete
from handlers.embedding import EmbeddingHandler
from handlers.registry import detect
from openai_compat.errors import ModelUnavailable, UnsupportedCapability

HEADS = {
    "bert": "Bert",
    "roberta": "Roberta",
    "distilbert": "DistilBert",
    "deberta-v2": "DebertaV2",
    "modernbert": "ModernBert",
}
SEVERAL, ONE = "multi_label_classification", "single_label_classification"
JIGSAW = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def save(saver, folder: Path, family: str = "bert", labels=JIGSAW, problem: str | None = SEVERAL, **changes) -> Path:
    names = dict(enumerate(labels))
    settings = {"id2label": names, "label2id": {name: i for i, name in names.items()}, "problem_type": problem}
    return saver(folder, family, head=f"{HEADS[family]}ForSequenceClassification", type_vocab_size=2, **settings, **changes)


def classified(handler: ClassifierHandler, collector, *texts: str) -> t.ClassifyResult:
    return complete(handler.classify_text(t.ClassifyRequest(texts=texts), collector()))


@pytest.mark.parametrize("problem", [SEVERAL, ONE, None])
@pytest.mark.parametrize("family", HEADS)
def test_the_scores_are_the_pipeline_s(
    encoder_saver, classifier_loader, sentences, collector, tmp_path, family: str, problem: str | None
) -> None:
    folder = save(encoder_saver, tmp_path, family, problem=problem)
    found = classified(classifier_loader(folder), collector, *sentences)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    library = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), top_k=None)
    for text, verdict in zip(sentences, found.verdicts, strict=True):
        wanted = {entry["label"]: entry["score"] for entry in library([text])[0]}
        assert verdict.labels == pytest.approx(wanted, abs=1e-5)
        assert (sum(wanted.values()) == pytest.approx(1, abs=1e-4)) == (problem != SEVERAL)
    assert len({round(verdict.labels["toxic"], 4) for verdict in found.verdicts}) == len(sentences)


def test_a_long_text_is_read_to_its_end_and_its_worst_window_counts(
    encoder_saver, classifier_loader, collector, tmp_path
) -> None:
    folder = save(encoder_saver, tmp_path)
    handler = classifier_loader(folder)
    text = "hello world, " * 40 + "the lazy dog jumps over the quick brown fox " + "hello there! " * 40
    (verdict,) = classified(handler, collector, text).verdicts
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    cut = tokenizer(text, truncation=True, max_length=40, stride=9, return_overflowing_tokens=True)["input_ids"]
    with torch.no_grad():
        rows = torch.stack([model(torch.tensor([ids])).logits.sigmoid()[0] for ids in cut])
    assert len(cut) > 8
    assert list(verdict.labels.values()) == pytest.approx(rows.max(0).values.tolist(), abs=1e-5)
    whole = [number for ids in cut for number in ids]
    assert set(tokenizer(text)["input_ids"]) <= set(whole)


def test_labels_become_categories_and_thresholds_flag_them(encoder_saver, classifier_loader, collector, tmp_path) -> None:
    folder = save(encoder_saver, tmp_path)
    (plain,) = classified(classifier_loader(folder), collector, "the fox").verdicts
    worst = max(plain.labels[name] for name in ("toxic", "severe_toxic", "insult"))
    assert plain.scores["harassment"] == worst
    assert plain.scores["violence"] == plain.scores["harassment/threatening"] == plain.labels["threat"]
    assert "self-harm" not in plain.scores
    options = {
        "categories": {"threat": ["self-harm"], "toxic": "illicit", "obscene": []},
        "threshold": {"illicit": 0.0, "hate": 1.0},
    }
    (told,) = classified(classifier_loader(folder, options=options), collector, "the fox").verdicts
    assert told.scores["self-harm"] == plain.labels["threat"]
    assert told.scores["illicit"] == plain.labels["toxic"]
    assert {"violence", "sexual"}.isdisjoint(told.scores)
    assert "illicit" in told.flagged
    assert "hate" not in told.flagged
    (strict,) = classified(classifier_loader(folder, options={"threshold": 0.0}), collector, "the fox").verdicts
    assert strict.flagged == set(strict.scores)


@pytest.mark.parametrize(
    ("labels", "category"),
    [
        (("OK", "H", "HR", "S", "SH", "S3"), "sexual/minors"),
        (("safe", "S1", "S3", "S11"), "self-harm"),
        (("non-toxic", "Identity Attack"), "hate"),
        (("self-harm/intent", "other"), "self-harm/intent"),
        (("LABEL_0", "Self_Harm"), "self-harm"),
    ],
)
def test_well_known_labels_are_known_however_they_are_spelt(
    encoder_saver, classifier_loader, collector, tmp_path, labels, category: str
) -> None:
    (verdict,) = classified(classifier_loader(save(encoder_saver, tmp_path, labels=labels)), collector, "the fox").verdicts
    assert category in verdict.scores


def test_a_model_whose_labels_mean_nothing_is_not_loaded_until_somebody_says_what_they_mean(
    encoder_saver, classifier_loader, collector, tmp_path
) -> None:
    folder = save(encoder_saver, tmp_path, labels=("LABEL_0", "LABEL_1"), problem=None)
    spec = t.ModelSpec(id="x", path=str(folder), kind="classifier")
    (problem,) = ClassifierHandler.validate_model_files(spec)
    assert "LABEL_0" in problem
    with pytest.raises(ModelUnavailable, match="categories"):
        classifier_loader(folder)
    handler = classifier_loader(folder, options={"categories": {"LABEL_1": "hate"}})
    assert set(classified(handler, collector, "the fox").verdicts[0].scores) == {"hate"}


@pytest.mark.parametrize(
    "options",
    [
        {"categories": {"toxic": "rudeness"}},
        {"categories": {"unheard of": "hate"}},
        {"threshold": 2},
        {"threshold": {"rudeness": 0.1}},
        {"colour": "red"},
    ],
)
def test_options_that_make_no_sense_are_refused(encoder_saver, classifier_loader, tmp_path, options) -> None:
    with pytest.raises(ModelUnavailable):
        classifier_loader(save(encoder_saver, tmp_path), options=options)


def test_texts_of_many_requests_get_the_scores_that_they_get_alone(tiny_judge, sentences, collector) -> None:
    waiting = [tiny_judge.classify_text(t.ClassifyRequest(texts=(text, "the")), collector()) for text in sentences]
    together = [complete(ticket).verdicts[0].labels for ticket in waiting]
    alone = [classified(tiny_judge, collector, text).verdicts[0].labels for text in sentences]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_it_runs_in_bfloat16_where_that_is_asked_for(encoder_saver, classifier_loader, collector, tmp_path) -> None:
    folder = save(encoder_saver, tmp_path)
    half, full = classifier_loader(folder, dtype="bfloat16"), classifier_loader(folder)
    assert str(half._model.lane.__self__._model.dtype) == "torch.bfloat16"
    (one,), (other,) = (classified(handler, collector, "the fox").verdicts for handler in (half, full))
    assert one.labels == pytest.approx(other.labels, abs=0.05)


def test_files_tell_classifiers_from_rankers(encoder_saver, tmp_path) -> None:
    several, one, ranker, number = (tmp_path / name for name in ("several", "one", "ranker", "number"))
    save(encoder_saver, several)
    save(encoder_saver, one, labels=("toxic",))
    save(encoder_saver, ranker, labels=("LABEL_0",), problem=None)
    save(encoder_saver, number, labels=("a", "b"), problem="regression")
    assert [detect(str(folder)) for folder in (several, one, ranker)] == ["classifier", "classifier", "embedding"]
    with pytest.raises(ModelUnavailable):
        detect(str(number))
    spec = t.ModelSpec(id="x", path=str(several), kind="auto")
    assert EmbeddingHandler.get_model_capabilities(spec) == frozenset()
    assert ClassifierHandler.analyze(spec).capabilities == ("classify_text", "tokenize_text")
    assert ClassifierHandler.validate_model_files(spec) == ()


def test_its_tokens_are_shown_and_it_has_no_chats(tiny_judge, collector) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_judge.spec.path)
    shown = tiny_judge.tokenize_text(t.TokenRequest(text="the fox"), collector())
    assert list(shown.ids) == tokenizer("the fox")["input_ids"]
    with pytest.raises(UnsupportedCapability):
        tiny_judge.validate_inputs(t.TokenRequest(chat=t.TextRequest(messages=())))
