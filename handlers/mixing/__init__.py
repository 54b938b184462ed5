"""Chats with pictures and sounds in them: what reads them into a language model's prompt."""
