"""llama.cpp's own server, from the wheels of xllamacpp. Arguments: a GGUF file and a port. The key is in the environment."""

from __future__ import annotations

import os
import sys
import time

import xllamacpp

# SmolLM2's own template knows no tools.
TEMPLATE = """
{%- if tools %}<|im_start|>system
Your tools:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
Call one by writing
<tool_call>
{"name": <name>, "arguments": <arguments>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames, params.port, params.api_keys = ["127.0.0.1"], int(sys.argv[2]), [os.environ["OPENAI_COMPAT_ENGINE_KEY"]]
params.n_parallel, params.n_ctx, params.n_gpu_layers = 2, 4096, 0
params.use_jinja, params.chat_template = True, TEMPLATE
server = xllamacpp.Server(params)
while True:
    time.sleep(60)
