"""The modes of text models. ``docs/modes.md`` shows this table; a test holds the two equal."""

from __future__ import annotations

from handlers.types import Mode

RAW_MODE = "complete"
TEXT_MODES: dict[str, Mode] = {
    "auto": Mode(
        description="Chooses: chat for messages where the model has a chat template, else complete.",
        output="as the mode it chose",
    ),
    "chat": Mode(
        description="A conversation, rendered by the model's chat template.",
        requires="any",
        output="the assistant's next message",
    ),
    "complete": Mode(
        description="Raw continuation of the prompt, or of the last user text; no chat template, no system prompt.",
        requires="any",
        output="the text that follows",
    ),
    "instruct": Mode(
        description="One instruction, carried out without small talk.",
        system_prompt="Carry out the user's instruction precisely. Give the result and nothing else.",
        temperature=0.3,
        top_p=0.9,
        requires="text",
        output="the result of the instruction",
    ),
    "creative": Mode(
        description="Stories, verse and ideas, with more variety.",
        system_prompt="You are an imaginative writer. Be vivid and original, and avoid clichés.",
        temperature=1.0,
        top_p=0.95,
        repetition_penalty=1.05,
        requires="text",
        output="prose or verse",
    ),
    "code": Mode(
        description="Program code, with little variety.",
        system_prompt=(
            "You are an expert programmer. Answer with correct, complete and idiomatic code in one fenced block, followed by a "
            "short explanation only where it is needed."
        ),
        temperature=0.2,
        top_p=0.95,
        requires="text",
        output="code in a fenced block",
    ),
    "analyze": Mode(
        description="Examines a text: main points, evidence, weaknesses, conclusion.",
        system_prompt="You are a careful analyst. Keep to what the text says, and tell facts from opinions.",
        template="Analyze the following text. Give its main points, its evidence, its weaknesses and a conclusion.\n\n{input}",
        temperature=0.3,
        top_p=0.9,
        requires="text",
        output="an analysis in these four steps",
    ),
    "translate": Mode(
        description="Translates a text.",
        system_prompt="You are a translator. Answer with the translation into {target_language} and nothing else.",
        template="Translate the following text from {source_language} into {target_language}:\n\n{input}",
        variables={"target_language": "English", "source_language": "the language it is written in"},
        temperature=0.0,
        requires="text",
        output="the translation alone",
    ),
    "summarize": Mode(
        description="Says the same in fewer words.",
        system_prompt="You summarize texts faithfully and add nothing of your own.",
        template="Summarize the following text in a few sentences:\n\n{input}",
        temperature=0.2,
        top_p=0.9,
        requires="text",
        output="a summary of a few sentences",
    ),
}
