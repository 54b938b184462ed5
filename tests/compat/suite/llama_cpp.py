"""llama.cpp's own server, as the wheels of xllamacpp have it. Arguments: a GGUF file and a port; the model is called `peer`."""

from __future__ import annotations

import sys
import time

import xllamacpp

SLOTS, CONTEXT, THREADS = 4, 8192, 1

params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"peer"}
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
params.n_parallel, params.n_ctx, params.n_gpu_layers = SLOTS, SLOTS * CONTEXT, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
params.use_jinja = True
server = xllamacpp.Server(params)
while True:
    time.sleep(60)
