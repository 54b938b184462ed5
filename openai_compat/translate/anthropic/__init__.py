"""Anthropic's messages ⇄ chats: pure functions and one state machine."""
