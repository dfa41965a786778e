"""The embedded server's command line and what is said about its age."""

from __future__ import annotations

import re

import pytest

from console.facts import Level, ToolFacts, Verdict
from console.planning.deployment import Deployment
from console.planning.variables import expand, names
from console.telemetry.host import host
from console.triton import embedded, options


def deployment(name: str = "digits", **server) -> Deployment:
    raw = {"name": name, "backend": "onnx", "checkpoints": {}, "server": server}
    return Deployment.model_validate(raw)


VALUES = {
    "work": "/w",
    "token_file": "/run/token",
    "env_embedded": "/e",
    "repository": "/w/repository",
    "http_port": "8010",
    "grpc_port": "8011",
    "metrics_port": "8012",
}


def argv(wanted: Deployment) -> list[str]:
    spec = embedded.Embedded().service(wanted, ("digits",), "${work}/workers/triton_server.py")
    return [expand(word, VALUES) for word in spec.process.argv]


def test_the_command_is_this_one():
    assert argv(deployment()) == [
        "/e/bin/python",
        "/w/workers/triton_server.py",
        "--folder=/w/embedded",
        "--token-file=/run/token",
        "--token-header=triton-access-token",
        "--",
        "--model-repository=/w/repository",
        "--http-address=127.0.0.1",
        "--http-port=8010",
        "--grpc-address=127.0.0.1",
        "--grpc-port=8011",
        "--metrics-address=127.0.0.1",
        "--metrics-port=8012",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-timeout-secs=8",
        "--log-format=ISO8601",
        "--backend-config=python,shm-region-prefix-name="
        + expand(options.shm_prefix(deployment()), VALUES),
    ]


def test_every_variable_of_the_command_is_declared_or_the_plans_own():
    wanted = deployment()
    spec = embedded.Embedded().service(wanted, (), "${work}/w.py")
    declared = {v.name for v in embedded.Embedded().variables(wanted)}
    used = frozenset().union(*(names(word) for word in spec.process.argv))
    assert used <= declared | {"work", "token_file", "env_embedded"}


def test_ports_and_addresses_are_the_operators():
    wanted = deployment(http_port=0, address="192.0.2.7", expose=True)
    ports = {v.name: v.default for v in embedded.Embedded().variables(wanted)}
    assert (ports["http_port"], ports["grpc_port"]) == ("0", "8001")
    words = argv(wanted)
    assert [w for w in words if "-address=" in w] == [
        f"--{name}-address=192.0.2.7" for name in ("http", "grpc", "metrics")
    ]


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8010"),
        ("0.0.0.0", "http://127.0.0.1:8010"),
        ("::1", "http://[::1]:8010"),
        ("::", "http://[::1]:8010"),
    ],
)
def test_the_url_is_one_that_a_client_here_can_reach(address, url):
    spec = embedded.Embedded().service(deployment(address=address, expose=True), (), "w.py")
    assert expand(spec.http_url, VALUES) == url


def test_nothing_listens_everywhere_unless_it_was_said():
    assert not [w for w in argv(deployment()) if "0.0.0.0" in w]
    with pytest.raises(ValueError, match="expose"):
        deployment(address="0.0.0.0")


def test_no_token_stands_in_the_command():
    assert not [w for w in argv(deployment()) if "restricted" in w]


def test_regions_of_two_servers_never_share_a_prefix():
    prefixes = {
        expand(options.shm_prefix(deployment(name)), {**VALUES, "http_port": port})
        for name in ("digits", "digits2")
        for port in ("80", "800", "8000")
    }
    assert len(prefixes) == 6
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]
    assert all(re.fullmatch(r"tritondeck_[0-9a-f]{8}_\d+_", p) for p in prefixes)


def test_the_server_gets_its_time_before_it_is_killed():
    spec = embedded.Embedded().service(deployment(), (), "w.py")
    assert spec.stop_timeout > options.EXIT_TIMEOUT + 5


def test_verbose_logging_is_passed_on():
    assert "--log-verbose=2" in argv(deployment(log_verbose=2))


def test_its_age_warns_on_loopback_and_fails_when_exposed():
    def age(**server) -> Verdict:
        found = embedded.Embedded().checks(deployment(**server), host(), ToolFacts())
        return next(verdict for verdict in found if verdict.check == "server-age")

    assert age().level is Level.WARN
    assert "CVE-2025-23319" in age().figure
    assert age(address="0.0.0.0", expose=True).level is Level.FAIL
