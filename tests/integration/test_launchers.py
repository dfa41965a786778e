"""The same deployment served by every launcher, through the command line; and what is told of it."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest

from console.facts import DeckError, Endpoint, InferenceRequest, TensorValue
from console.keeper import look
from console.triton.inference import infer
from tests.containers import Engine
from tests.processes import until
from tests.support import ANY_PORTS, Operator, contents, local_triton, make_doubler, until_gone

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "deployment.toml"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Somebody with a Triton on the PATH, for whom the digits have been exported once."""
    person = Operator(tmp_path_factory.mktemp("home"))
    bin_ = local_triton(tmp_path_factory.mktemp("opt") / "tritonserver")
    person.env["PATH"] = f"{bin_}:{person.env['PATH']}"
    yield person
    person.leave()


@pytest.fixture(scope="module")
def embedded(operator: Operator) -> dict[str, Any]:
    run: dict[str, Any] = operator.json("deploy", str(DIGITS))["run"]
    return run


def living(operator: Operator, name: str) -> dict[str, Any]:
    """The service of a deployment that runs, with its phase."""
    document = operator.json("services")
    (found,) = [s for s in document["services"] if s["deployment"] == name and s["pid"]]
    return {**found, **document["lifecycle"][found["id"]]}


def listening(pid: int) -> set[str]:
    """Addresses that a process and what is below it listen on."""
    process = psutil.Process(pid)
    tree = [process, *process.children(recursive=True)]
    found = []
    for member in tree:
        with suppress(psutil.NoSuchProcess):
            found += member.net_connections("tcp")
    return {
        one.laddr.ip.removeprefix("::ffff:") for one in found if one.status == psutil.CONN_LISTEN
    }


def stub_of(pid: int) -> psutil.Process:
    """The process of the one model of a server."""

    def stubs() -> list[psutil.Process]:
        found = []
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline() and process.name().startswith("triton_python_b"):
                    found.append(process)
        return found

    # An earlier version answers no more, and its process ends a moment later.
    return until(lambda: len(found := stubs()) == 1 and found)[0]


# ---------------------------------------------------------------------------- the five ways


def test_embedded_answers_and_is_told_as_serving(
    operator: Operator, embedded: dict[str, Any]
) -> None:
    assert embedded["state"] == "succeeded" and "nine two eight" in embedded["answer"]
    served = living(operator, "digits")
    assert (served["launcher"], served["phase"]) == ("embedded", "serving")
    assert listening(served["pid"]) == {"127.0.0.1"}


@pytest.mark.usefixtures("embedded")
def test_attached_the_same_server_is_asked_and_left_as_it_is(operator: Operator) -> None:
    theirs = living(operator, "digits")
    text = DIGITS.read_text().replace("http_port = 0\ngrpc_port = 0\nmetrics_port = 0\n", "")
    text = text.replace('name = "digits"', 'name = "seen"\nmodel_name = "digits"')
    text = text.replace(
        "[server]", f'[server]\nlauncher = "attach"\nurl = "{theirs["endpoint"]["url"]}"'
    )
    for place in ("digits.nemo", "wavs/"):
        text = text.replace(f'"{place}', f'"{DIGITS.parent}/{place}')
    file = operator.home / "seen.toml"
    file.write_text(text)
    run = operator.json("deploy", str(file))["run"]
    assert [step["id"] for step in run["steps"]] == ["service", "verify"]
    assert "nine two eight" in run["answer"]
    asked = operator.does("query", "seen", "--audio", str(DIGITS.parent / "wavs" / "digits_1.wav"))
    assert "nine two eight" in asked
    assert "the server goes on" in operator.does("stop", "seen")
    assert living(operator, "digits")["pid"] == theirs["pid"]


@pytest.mark.usefixtures("embedded")
def test_a_local_server_on_the_path_serves_what_was_exported_before(operator: Operator) -> None:
    run = operator.json("deploy", "digits", "--set", "server.launcher=local")["run"]
    states = {step["id"]: step["state"] for step in run["steps"]}
    assert states["export"] == "skipped" and "nine two eight" in run["answer"]
    served = living(operator, "digits")
    assert (served["launcher"], served["phase"]) == ("local", "serving")
    assert listening(served["pid"]) == {"127.0.0.1"}
    report = operator.json("check", "digits")
    told = {verdict["check"]: verdict for verdict in report["checks"]}
    assert "Triton 2.51.0" in told["server-program"]["summary"]
    assert told["onnx-form"]["figure"] == "ensemble, python"
    assert told["server-python"]["level"] == "pass" and told["server-age"]["level"] == "warn"
    operator.does("stop", "digits")


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_container_serves_what_was_exported_before(
    operator: Operator, engine: str, request: pytest.FixtureRequest
) -> None:
    runtime: Engine = request.getfixturevalue(engine)
    operator.env.update(runtime.environ)
    words = ("--set", "server.launcher=container", "--set", "server.image=24.10-py3")
    run = operator.json("deploy", "digits", *words, "--set", f"server.engine={engine}")["run"]
    states = {step["id"]: step["state"] for step in run["steps"]}
    assert states["export"] == "skipped" and "nine two eight" in run["answer"]
    (container,) = runtime.containers()
    ports = runtime.inspect(container)["NetworkSettings"]["Ports"]
    assert {place["HostIp"] for places in ports.values() for place in places} == {"127.0.0.1"}
    report = operator.json("check", "digits")
    told = {verdict["check"]: verdict for verdict in report["checks"]}
    assert told["server-image"]["source"] == "asked inside the image"
    assert told["onnx-form"]["figure"] == "ensemble, python"
    operator.does("stop", "digits")
    assert runtime.containers() == []


# ---------------------------------------------------------------------------- containers that die


@pytest.fixture
def contained(operator: Operator, docker: Engine, tmp_path: Path) -> Iterator[str]:
    """A small deployment in a container that may use little memory, watched closely."""
    operator.env.update(docker.environ)
    settings = {"launcher": "container", "image": "24.10-py3", "engine": "docker"}
    settings |= {"memory": "200m", "probe_seconds": "1"}
    words = [word for k, v in settings.items() for word in ("--set", f"server.{k}={v}")]
    words += ["--set", "max_batch_size=0"]  # a request may be of any size
    operator.does("deploy", str(make_doubler(tmp_path)), "--name", "boxed", *ANY_PORTS, *words)
    yield "boxed"
    operator.does("stop", "boxed")


def test_a_shell_runs_inside_the_container_that_serves(operator: Operator, contained: str) -> None:
    living(operator, contained)
    words = ("--environment", "container", "--", "sh", "-c", "id -u; ls /models")
    said = operator.does("shell", contained, *words)
    assert said.splitlines()[0] == str(os.getuid()) and len(said.splitlines()) > 1


def test_a_container_outlives_its_supervisor_and_follower_and_is_found_again(
    operator: Operator, contained: str, docker: Engine
) -> None:
    served = living(operator, contained)
    kept = look(Path(served["folder"]))
    assert kept.keeper is not None and kept.child is not None
    for process in (kept.keeper, kept.child):
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not kept.keeper.alive and not kept.child.alive)
    found = living(operator, contained)
    assert found["pid"] == served["pid"] and "supervisor is gone" in found["reason"]
    assert "2, 4, 6, 8" in operator.does("query", contained, "--input", "X=[[1, 2, 3, 4]]")
    assert operator.json("stop", contained)["service"]["state"] == "stopped"
    assert docker.containers() == []


def test_a_killed_stub_in_a_container_is_told_too(operator: Operator, contained: str) -> None:
    served = living(operator, contained)
    stub_of(served["pid"]).kill()
    until(lambda: "has died" in living(operator, contained)["words"])
    assert living(operator, contained)["phase"] == "degraded"


def test_memory_that_a_model_did_not_get_is_told_as_the_cause(
    operator: Operator, contained: str, tmp_path: Path
) -> None:
    served = living(operator, contained)
    large = TensorValue("X", "FP32", (4_000_000, 4), file=tmp_path / "large.npy")
    np.save(tmp_path / "large.npy", np.zeros(large.shape, np.float32))
    with pytest.raises(DeckError):
        infer(Endpoint(served["endpoint"]["url"]), InferenceRequest(contained, (large,)), 30)

    def told() -> str:
        document = operator.json("services")
        (now,) = [s for s in document["services"] if s["id"] == served["id"]]
        life = document["lifecycle"].get(now["id"], {"phase": now["state"], "words": now["reason"]})
        return f"{life['phase']}: {life['words']}" if life["phase"] != "serving" else ""

    until(lambda: "memory limit" in told() or "for want of memory (OOM)" in told())
    assert told().startswith(("degraded", "failed"))


# ---------------------------------------------------------------------------- life and death


@pytest.fixture
def doubler(tmp_path: Path, operator: Operator) -> Iterator[str]:
    """A small deployment whose server is watched closely."""
    watched = ("--set", "server.probe_seconds=1", "--set", "server.restart=on-failure")
    operator.does("deploy", str(make_doubler(tmp_path)), "--name", "watched", *ANY_PORTS, *watched)
    yield "watched"
    operator.does("stop", "watched")


def test_a_killed_stub_is_told_as_degraded_though_triton_says_ready(
    operator: Operator, doubler: str
) -> None:
    served = living(operator, doubler)
    stub_of(served["pid"]).kill()
    until(lambda: "has died" in living(operator, doubler)["words"])
    found = living(operator, doubler)
    assert found["phase"] == "degraded"
    assert [model["ready"] for model in found["models"]] == [True]


def test_a_killed_server_is_started_again_with_its_models(operator: Operator, doubler: str) -> None:
    before = living(operator, doubler)
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        document = operator.json("services")
        (now,) = [s for s in document["services"] if s["id"] == before["id"]]
        return now["pid"] not in (None, before["pid"]) and (
            document["lifecycle"].get(now["id"], {}).get("phase") == "serving"
        )

    until(back)
    assert "2, 4, 6, 8" in operator.does("query", doubler, "--input", "X=[[1, 2, 3, 4]]")
    assert living(operator, doubler)["restarts"] == 1


def test_after_a_stop_nothing_is_left(operator: Operator, tmp_path: Path) -> None:
    operator.does("deploy", str(make_doubler(tmp_path)), "--name", "ended", *ANY_PORTS)
    served = living(operator, "ended")
    token = Path(served["endpoint"]["token_file"])
    port = served["endpoint"]["url"].rpartition(":")[2]
    regions = [p for p in Path("/dev/shm").iterdir() if f"_{port}_" in p.name]
    assert token.is_file() and regions
    operator.does("stop", "ended")
    assert not token.exists() and not [region for region in regions if region.exists()]
    assert not psutil.pid_exists(served["pid"])
    until_gone(str(operator.home / "state" / "work" / "ended"))


def test_an_idle_connection_of_somebody_else_delays_a_stop_and_no_more(
    operator: Operator, tmp_path: Path
) -> None:
    import http.client
    from urllib.parse import urlsplit

    operator.does("deploy", str(make_doubler(tmp_path)), "--name", "held", *ANY_PORTS)
    where = urlsplit(living(operator, "held")["endpoint"]["url"])
    idle = http.client.HTTPConnection(where.hostname or "", where.port)
    idle.request("GET", "/v2/health/live")
    idle.getresponse().read()
    operator.does("stop", "held")
    idle.close()
    (ended,) = [s for s in operator.json("services")["services"] if s["deployment"] == "held"]
    assert ended["state"] == "stopped" and "killed" not in ended["reason"]


# ---------------------------------------------------------------------------- attached, with care


@pytest.fixture
def guarded(operator: Operator, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of ours behind TLS and a token, as a gateway would have it: its URL and CA file."""
    operator.does("deploy", str(make_doubler(tmp_path)), "--name", "behind", *ANY_PORTS)
    behind = living(operator, "behind")["endpoint"]["url"]
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        [*("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"), *subject,
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip

    class Gateway(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            if self.headers.get("x-key") != "canary-token-0123456789":
                self.send_error(403)
                return
            size = int(self.headers.get("Content-Length", 0))
            keep = {
                n: v for n, v in self.headers.items() if n.lower().startswith(("inf", "content"))
            }
            wanted = Request(
                behind + self.path, self.rfile.read(size) or None, keep, method=self.command
            )
            try:
                answer = urlopen(wanted)
            except HTTPError as error:
                answer = error  # the server's own refusals pass through
            with answer:
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower().startswith(("inf", "content")):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = _pass

        def log_message(self, *_: object) -> None:
            """Quiet: the test's output is not this server's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", certificate
    server.shutdown()
    operator.does("stop", "behind")


def test_attaching_over_tls_with_a_token_takes_the_right_ca_and_the_right_token(
    operator: Operator, guarded: tuple[str, Path], tmp_path: Path
) -> None:
    url, certificate = guarded
    token = tmp_path / "token"
    token.write_text("canary-token-0123456789")
    settings = {
        "launcher": "attach", "url": url, "ca_file": str(certificate),
        "token_file": str(token), "token_header": "x-key",
    }  # fmt: skip

    def words(name: str, **changes: str) -> list[str]:
        lines = [f'{key} = "{value}"' for key, value in {**settings, **changes}.items() if value]
        file = tmp_path / f"{name}.toml"
        file.write_text(
            f'version = 1\nname = "{name}"\nbackend = "onnx"\nmodel_name = "behind"\n'
            f'[checkpoints]\nmodel = "{make_doubler(tmp_path)}"\n[server]\n' + "\n".join(lines)
        )
        return ["deploy", str(file)]

    operator.does(*words("trusted"))
    assert "2, 4, 6, 8" in operator.does("query", "trusted", "--input", "X=[[1, 2, 3, 4]]")
    refused = operator.json(*words("stranger", ca_file=""), code=3)
    assert "certificate" in refused["error"]["why"]
    token.write_text("another-token-0123456789")
    assert "403" in json.dumps(operator.json(*words("thief"), code=3)["error"])
    assert not [f for f, content in contents(operator.home / "state") if b"canary" in content]
    operator.does("stop", "trusted")
