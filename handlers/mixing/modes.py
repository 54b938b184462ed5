"""The modes of models that see or hear. ``docs/modes.md`` shows this table; a test holds the two equal."""

from __future__ import annotations

from handlers.text_modes import RAW_MODE, TEXT_MODES
from handlers.types import Mode

_ANALYZE = Mode(
    description="Examines what is sent: what is there, how its parts relate, what is doubtful, and a conclusion.",
    system_prompt="You are a careful observer. Keep to what is there, and tell what you see or hear from what you conclude.",
    template=(
        "Analyze what you are given. Say what is there, how its parts relate, what cannot be told for certain, and what "
        "follows from it.\n\n{input}"
    ),
    temperature=0.3,
    top_p=0.9,
    requires="text",
    output="an analysis in these four steps",
)
_CHAT = Mode(
    description="A conversation, rendered by the model's chat template.",
    output="the assistant's next message",
)
_MULTIMODAL = Mode(
    description="A conversation with pictures or sounds in it, each where it stands among the words.",
    requires="messages",
    output="the assistant's next message",
)
MULTIMODAL_MODES: dict[str, Mode] = {
    "auto": Mode(
        description="Chooses: multimodal for messages with pictures or sounds, chat for others where the model has a chat "
        "template, else complete.",
        output="as the mode it chose",
    ),
    "chat": _CHAT,
    RAW_MODE: TEXT_MODES[RAW_MODE],
    "multimodal": _MULTIMODAL,
    "analyze": _ANALYZE,
}
JANUS_MODES: dict[str, Mode] = {
    "auto": Mode(
        description="Chooses: multimodal for messages with pictures, else chat; a request for a picture has the mode image.",
        output="as the mode it chose",
    ),
    "chat": _CHAT,
    "image": Mode(description="Paints a picture of the last user text.", requires="text", output="a picture"),
    "multimodal": _MULTIMODAL,
    "analyze": _ANALYZE,
}
