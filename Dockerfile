# The server listens on every interface of the container, so it starts only with a key: docker run -e OPENAI_COMPAT_API_KEY=...
FROM python:3.11-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY locks locks
COPY openai_compat openai_compat
COPY handlers handlers
COPY routes routes
COPY schemas schemas
# The text engine compiles its kernels for the very processor that it runs on.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN PIP_NO_CACHE_DIR=1 python locks/install.py \
    && useradd --create-home --uid 10001 server \
    && install -d -o server -g server /models

USER 10001
ENV OPENAI_COMPAT_SERVER__HOST=0.0.0.0 OPENAI_COMPAT_CACHE_DIR=/models XDG_CACHE_HOME=/models/.cache
VOLUME /models
EXPOSE 8000
HEALTHCHECK --start-period=5m CMD ["python", "-P", "-c", "import os; from urllib.request import urlopen; urlopen('http://127.0.0.1:' + (os.environ.get('PORT') or '8000') + '/health/live', timeout=3)"]
CMD ["openai-compat", "serve"]
