"""Answers with one letter → probabilities of options → answers to questions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import Any

from openai_compat.errors import UnsupportedCapability
from schemas.answers import ReadAnswer, ReadUsage
from schemas.decisions import (
    Answer,
    ChoiceAnswer,
    ChoiceProbability,
    ChoiceQuestion,
    DecisionInputDetails,
    DecisionOutputDetails,
    DecisionUsage,
    LevelProbability,
    Predicate,
    PredicateAnswer,
    Question,
    RefusalAnswer,
    ScoreAnswer,
)

_AROUND = " \t\r\n.:,;)(\"'*`"
Shares = list[float]


def shares_of(answer: ReadAnswer, number: int) -> Shares | None:
    """How likely each of the first ``number`` letters is as the answer, of all of them together; None where none is likely.

    A letter that is not among the tokens that are told is less likely than any of them, so the least of these counts for it.
    Raises ``UnsupportedCapability`` where no probabilities are told.
    """
    told = _told(answer)
    found = dict.fromkeys(ascii_uppercase[:number], 0.0)
    for token, probability in told:
        letter = token.strip(_AROUND)
        if letter in found:
            found[letter] += probability
    if not any(found.values()):
        return None
    least = min(probability for _, probability in told)
    return _normalised([share or least for share in found.values()])


def together(forward: Shares | None, backward: Shares | None) -> Shares | None:
    """Of two orders of the options, the second from the last to the first: the geometric mean, in which it cancels out that a
    model likes a letter, or a place. None where one of them has no answer.
    """
    if forward is None or backward is None:
        return None
    return _normalised([math.sqrt(one * other) for one, other in zip(forward, reversed(backward), strict=True)])


def joined(groups: Shares, within: Sequence[Shares | None], sizes: Sequence[int]) -> Shares:
    """Options in groups: the group's share of the option's share of it; a group that was not asked about is split evenly."""
    spread = [shares or [1 / size] * size for shares, size in zip(within, sizes, strict=True)]
    return [share * part for share, parts in zip(groups, spread, strict=True) for part in parts]


def _normalised(shares: Shares) -> Shares:
    """They sum to 1. Numbers too small to be told from nothing are all alike."""
    total = math.fsum(shares)
    return [share / total for share in shares] if total > 0 else [1 / len(shares)] * len(shares)


def _told(answer: ReadAnswer) -> list[tuple[str, float]]:
    logprobs = answer.choices[0].logprobs if answer.choices else None
    content = None if logprobs is None else logprobs.content
    if not content:
        raise UnsupportedCapability("The model tells no probabilities, so it cannot be asked for decisions.", param="model")
    first = content[0]
    return list(filter(None, map(_likelihood, first.get("top_logprobs") or [first])))


def _likelihood(entry: Any) -> tuple[str, float] | None:
    token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    return (token, math.exp(min(0.0, logprob))) if logprob == logprob else None


# ---------------------------------------------------------------- answers


def to_answer(question: Question, shares: Shares | None) -> Answer:
    if shares is None:
        return RefusalAnswer(name=question.name)
    if isinstance(question, Predicate):
        return PredicateAnswer(name=question.name, probability=shares[0])
    best = max(range(len(shares)), key=shares.__getitem__)
    if isinstance(question, ChoiceQuestion):
        values = [option.value for option in question.choices]
        return ChoiceAnswer(
            name=question.name,
            choice=values[best],
            confidence=shares[best],
            probabilities=[ChoiceProbability(value=v, probability=p) for v, p in zip(values, shares, strict=True)],
        )
    levels = enumerate(zip(question.levels, shares, strict=True))
    return ScoreAnswer(
        name=question.name,
        score=math.fsum(value * share for value, share in enumerate(shares)),
        confidence=shares[best],
        probabilities=[LevelProbability(value=i, label=level.label, probability=p) for i, (level, p) in levels],
    )


def usage_of(answers: Iterable[ReadAnswer]) -> DecisionUsage:
    used = [answer.usage or ReadUsage() for answer in answers]
    read, written = sum(one.prompt_tokens or 0 for one in used), sum(one.completion_tokens or 0 for one in used)
    return DecisionUsage(
        input_tokens=read,
        input_tokens_details=DecisionInputDetails(cached_tokens=sum(one.cached for one in used)),
        output_tokens=written,
        output_tokens_details=DecisionOutputDetails(reasoning_tokens=sum(one.thought for one in used)),
        total_tokens=read + written,
    )
