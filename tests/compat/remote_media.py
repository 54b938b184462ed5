"""Run in a network of its own, where an address of the public internet is this machine's: asks for the same picture both ways.

Its arguments are a configuration for the server and a folder. Prints what it saw as JSON.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import wave
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
from PIL import Image

PUBLIC, PRIVATE = "93.184.215.14", "10.1.2.3"
NAMES = {
    "pictures.example": (PUBLIC,),
    "other.example": (PUBLIC,),
    "intranet.example": (PRIVATE,),
    "both.example": (PUBLIC, PRIVATE),
}
INSIDE = ("http://intranet.example/a.png", "http://both.example/a.png", f"http://{PRIVATE}/a.png", "http://127.0.0.1/a.png",
          "http://pictures.example/inside", "http://pictures.example/here", "http://nowhere.example/a.png",
          "http://pictures.example/missing", "https://other.example/a.png", "http://pictures.example:81/a.png")  # fmt: skip
COMMAND = Path(sys.executable).with_name("openai-compat")


def picture() -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(file, "PNG")
    return file.getvalue()


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
        recording.writeframes(bytes(range(200)) * 40)
    return file.getvalue()


FILES = {"/a.png": picture(), "/a.wav": sound()}
MOVED = {"/moved": "/a.png", "/inside": f"http://{PRIVATE}/a.png", "/here": "http://127.0.0.1:80/a.png"}


class Site(BaseHTTPRequestHandler):
    def __init__(self, seen: list[str], *arguments: Any) -> None:
        self._seen = seen
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._seen.append(f"{self.headers['Host']}{self.path}")
        body = FILES.get(self.path, b"")
        self.send_response(302 if self.path in MOVED else 200 if body else 404)
        if self.path in MOVED:
            self.send_header("Location", MOVED[self.path])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Standard output is for the result."""


def sited(address: str, port: int = 80, tls: ssl.SSLContext | None = None) -> list[str]:
    """A web server at ``address``; what it was asked comes to stand in the list."""
    seen: list[str] = []
    server = ThreadingHTTPServer((address, port), partial(Site, seen))
    server.socket = server.socket if tls is None else tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return seen


def certified(folder: Path) -> ssl.SSLContext:
    """For one of the names; everything that is started from here on believes it."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=x"]
    files = ["-addext", "subjectAltName=DNS:pictures.example", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(["openssl", "req", "-x509", *new, *files], check=True, capture_output=True, cwd=folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    os.environ["SSL_CERT_FILE"] = str(folder / "cert.pem")
    return context


def network(folder: Path) -> None:
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {name}\n" for name, all in NAMES.items() for a in all))
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{PUBLIC}/32", "dev", "lo"],
        ["ip", "address", "add", f"{PRIVATE}/32", "dev", "lo"],
        ["mount", "--bind", str(hosts), "/etc/hosts"],
    ):
        subprocess.run(command, check=True)
    if {found[4][0] for found in socket.getaddrinfo("both.example", 80)} != {PUBLIC, PRIVATE}:
        raise RuntimeError("names do not come from the file of hosts")


def chat(client: openai.OpenAI, model: str, part: dict[str, Any]) -> str:
    text = {"type": "text", "text": "What is it?"}
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": [text, part]}], temperature=0, max_tokens=8,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    return f"{answer.choices[0].message.content} {answer.usage.prompt_tokens if answer.usage else 0}"


def seen_picture(client: openai.OpenAI, url: str) -> str:
    return chat(client, "llava", {"type": "image_url", "image_url": {"url": url}})


def heard(client: openai.OpenAI, data: str) -> str:
    return chat(client, "qwen2_audio", {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})


def vector(client: openai.OpenAI, url: str) -> list[float]:
    answer = client.embeddings.create(model="shapes-clip", input=[{"image_url": url}], encoding_format="float")  # type: ignore[list-item]
    return answer.data[0].embedding


def refused(client: openai.OpenAI, url: str) -> list[Any]:
    began = time.monotonic()
    try:
        return [seen_picture(client, url)]
    except openai.BadRequestError as error:
        return [error.code, error.param, error.body, time.monotonic() - began]


def data_url(path: str, type: str) -> str:
    return f"data:{type};base64,{base64.b64encode(FILES[path]).decode()}"


def ask(client: openai.OpenAI) -> dict[str, Any]:
    local, site = data_url("/a.png", "image/png"), "http://pictures.example"
    return {
        "chat": [
            seen_picture(client, url)
            for url in (local, f"{site}/a.png", f"{site}/moved", f"http://{PUBLIC}/a.png", "https://pictures.example/a.png")
        ],
        "sound": [heard(client, data) for data in (base64.b64encode(FILES["/a.wav"]).decode(), f"{site}/a.wav")],
        "vectors": [vector(client, url) for url in (local, f"{site}/a.png")],
        "refused": [refused(client, url) for url in INSIDE],
    }


def main() -> None:
    config, folder = Path(sys.argv[1]), Path(sys.argv[2])
    network(folder)
    public, private, here = sited(PUBLIC), sited(PRIVATE), sited("127.0.0.1")
    secure = sited(PUBLIC, 443, certified(folder))
    log = folder / "server.log"
    with log.open("wb") as output:
        command = [COMMAND, "serve", "--config", config, "--port", "0"]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        while not (found := re.search(r"http://[^\s/]+:\d+", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        with openai.OpenAI(base_url=f"{found.group()}/v1", api_key="none", max_retries=0, timeout=300) as client:
            answers = ask(client)
    finally:
        process.terminate()
        process.wait(60)
    print(json.dumps(answers | {"public": public, "secure": secure, "private": private + here, "log": log.read_text()}))


if __name__ == "__main__":
    main()
