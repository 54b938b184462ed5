"""What is looked at in a model's files before anything is loaded: formats, code, links, headers. See ``walk.scan``."""

from openai_compat.gateway.scan.walk import scan

__all__ = ["scan"]
