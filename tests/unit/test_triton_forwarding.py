"""The ssh command that brings a loopback server to an operator's own machine."""

from __future__ import annotations

import pytest

from console.facts import Endpoint
from console.triton.forwarding import Login, forward, login

SERVER = Endpoint(
    "http://127.0.0.1:8000",
    grpc_url="127.0.0.1:8001",
    metrics_url="http://127.0.0.1:8002/metrics",
)


def test_every_port_of_the_server_is_forwarded():
    assert forward(SERVER, Login("ann", "gpu1")) == (
        "ssh -N -L 8000:127.0.0.1:8000 -L 8001:127.0.0.1:8001 -L 8002:127.0.0.1:8002 ann@gpu1"
    )


def test_the_operator_comes_back_the_way_that_they_came():
    came = {"SSH_CONNECTION": "10.0.0.5 51022 192.0.2.7 2222"}
    assert login(came, "ann", "gpu1") == Login("ann", "192.0.2.7", 2222)
    assert forward(SERVER, login(came, "ann", "gpu1")).endswith("-p 2222 ann@192.0.2.7")


@pytest.mark.parametrize("environ", [{}, {"SSH_CONNECTION": "torn"}, {"SSH_CONNECTION": "a b c d"}])
def test_without_an_ssh_session_the_host_is_named(environ):
    assert login(environ, "ann", "gpu1") == Login("ann", "gpu1", 22)


def test_an_ipv6_loopback_is_written_in_brackets():
    assert "-L '8000:[::1]:8000'" in forward(Endpoint("http://[::1]:8000"), Login("ann", "gpu1"))


@pytest.mark.parametrize("url", ["http://192.0.2.1:8000", "http://gpu1:8000", "", "http://:x"])
def test_a_server_that_is_reached_anyway_needs_no_forwarding(url):
    assert forward(Endpoint(url), Login("ann", "gpu1")) == ""


def test_a_name_cannot_add_words_to_the_command():
    assert forward(SERVER, Login("ann", "x; rm -rf ~")).endswith("'ann@x; rm -rf ~'")
