"""``python -P -m openai_compat`` is the command ``openai-compat``."""

from openai_compat.cli import main

main()
