"""`/v1/responses` ⇄ chats: items and requests to a chat's body, a chat's answer to items and events. Pure functions."""

from openai_compat.translate.responses.answering import Answering, frame
from openai_compat.translate.responses.items import read_items
from openai_compat.translate.responses.reading import new_id
from openai_compat.translate.responses.turn import Turn, param_of, shorter, to_turn
from schemas.responses_answer import Event, Item

__all__ = ["Answering", "Event", "Item", "Turn", "frame", "new_id", "param_of", "read_items", "shorter", "to_turn"]
