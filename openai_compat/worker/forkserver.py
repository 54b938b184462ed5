"""A small server that has imported the heavy libraries once and forks a worker from itself on demand.

It reads one ``Launch`` as JSON a line on standard input, forks, and writes ``Forked`` and later ``Exited`` lines on standard
output. The end of its input means that the gateway is gone, and it ends. It stays single-threaded, so that a fork copies no
lock that nobody will ever release, and it never initialises CUDA, which does not survive a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import NoReturn

import msgspec

from openai_compat.protocol import Exited, Forked, ForkLine, Launch, Preloaded
from openai_compat.worker.descriptors import close_inherited

# transformers loads its parts on first use only, so each is named; a worker then finds everything in place.
PRELOAD = (
    "torch",
    "safetensors.torch",
    "transformers.modeling_utils",
    "transformers.generation.utils",
    "transformers.generation.streamers",
    "transformers.tokenization_utils_tokenizers",
    "transformers.models.auto.configuration_auto",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "handlers.registry",
    "openai_compat.worker.process",
    "openai_compat.app",
    "uvicorn",
)
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_CHUNK = 1 << 16


class ForkServer:
    """Reads orders from ``source``, answers on ``sink`` (file descriptors), and gives each child to ``run``."""

    def __init__(self, run: Callable[[Launch], object], *, source: int = _STDIN, sink: int = _STDOUT) -> None:
        self._run = run
        self._source = source
        self._sink = sink
        self._children: dict[int, str] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()

    def serve(self, preloaded: Preloaded) -> None:
        """Fork until the input ends."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._say(preloaded)
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._wake_read in ready:
                    os.read(self._wake_read, _CHUNK)
                    self._reap()
                if self._source in ready:
                    data = os.read(self._source, _CHUNK)
                    if not data:
                        return
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        self._fork(msgspec.json.decode(line, type=Launch), selector)

    def _fork(self, launch: Launch, selector: selectors.BaseSelector) -> None:
        pid = os.fork()
        if pid:
            self._children[pid] = launch.worker_id
            self._say(Forked(launch.worker_id, pid))
            return
        status = 1
        try:
            self._become_worker(selector)
            self._run(launch)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # the child's last boundary: it must never return into the server's loop
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _become_worker(self, selector: selectors.BaseSelector) -> None:
        """Undo what the server set up for itself, so that nothing of it reaches into the worker."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self._source)
        os.close(null)
        os.dup2(_STDERR, self._sink)
        self._children.clear()
        gc.unfreeze()

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if worker_id := self._children.pop(pid, None):
                self._say(Exited(worker_id, os.waitstatus_to_exitcode(status)))

    def _say(self, line: ForkLine) -> None:
        """A gateway that is gone hears nothing; its end is seen at the input."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._sink, msgspec.json.encode(line) + b"\n")


def _pipe() -> tuple[int, int]:
    """``os.pipe2`` for systems that have none (macOS)."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def preload(modules: Sequence[str]) -> Preloaded:
    """Import ``modules``; those that cannot be are named with the reason, and a worker that needs one says so itself."""
    started = time.monotonic()
    missing: dict[str, str] = {}
    with _single_threaded_blas():
        _import("numpy", missing)
        if find_spec("scipy") is not None:  # transformers uses it where it is
            _import("scipy.linalg", missing)
    for name in modules:
        _import(name, missing)
    if _cuda_initialised():
        raise RuntimeError("a preloaded module initialised CUDA: workers forked from here could not use it")
    gc.collect()
    gc.freeze()
    return Preloaded(time.monotonic() - started, _threads(), missing)


def _import(name: str, missing: dict[str, str]) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing[name] = str(error)


@contextlib.contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """The BLAS that numpy and scipy each bring start their threads when they are imported; torch's keeps what is set."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _cuda_initialised() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _threads() -> int:
    """Native threads too, where the system tells (Linux); 1 elsewhere."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _run_worker(launch: Launch) -> NoReturn:
    from openai_compat.worker.process import run

    run(launch)


def main(run: Callable[[Launch], object] = _run_worker, modules: Sequence[str] = PRELOAD) -> None:
    close_inherited()
    ForkServer(run).serve(preload(modules))


if __name__ == "__main__":
    main()
