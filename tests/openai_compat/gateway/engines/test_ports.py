"""Ports for engines, and who listens on one."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from openai_compat.gateway.engines import ports
from openai_compat.gateway.engines.ports import HOST, Ports, is_strangers


def test_ports_that_are_out_are_not_given_out_again() -> None:
    given = Ports()
    taken = [given.take() for _ in range(200)]
    assert len(set(taken)) == 200


def test_one_can_be_listened_on_at_once() -> None:
    port = Ports().take()
    with socket.create_server((HOST, port)):
        pass


def test_it_is_free_again_once_it_was_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Ports()
    port = given.take()

    class Probe(socket.socket):
        def getsockname(self):
            return HOST, port

    monkeypatch.setattr(ports.socket, "socket", Probe)
    with pytest.raises(OSError, match="no free port"):
        given.take()
    given.give_back(port)
    assert given.take() == port


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a port is")
def test_another_users_port_is_a_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_strangers(port)
        monkeypatch.setattr(ports, "_ROOT", -1)
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        assert is_strangers(port)
    assert not is_strangers(port)
