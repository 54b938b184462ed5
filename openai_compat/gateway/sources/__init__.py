"""Where models come from: a hub, a wheel, a folder; and where their files are kept. ``store.ModelStore`` is the way in."""

from openai_compat.gateway.sources.store import ModelStore, cache_root
from openai_compat.gateway.sources.types import PullFailed, Report, Stage, Step

__all__ = ["ModelStore", "PullFailed", "Report", "Stage", "Step", "cache_root"]
