"""Engines: programs that serve OpenAI HTTP by themselves, started, watched and ended like workers of ours."""
