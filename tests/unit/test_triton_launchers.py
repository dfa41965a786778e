"""Every launcher's command, what it says before a start, and the dated data behind it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.facts import EnvironmentFacts, Level, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment
from console.planning.plan import Plan, ServiceSpec, ServiceStep, UrlReady
from console.planning.script import render
from console.planning.server import LOOPBACK, ServerSection
from console.planning.variables import Variable
from console.runtimes.host import launch
from console.services import restarts
from console.settings import load
from console.telemetry.host import host
from console.triton import launchers, releases

PORTS = {"http_port": 8010, "grpc_port": 8011, "metrics_port": 8012}
WORKER = "${work}/workers/triton_server.py"


def deployment(**server: Any) -> Deployment:
    section = ServerSection.model_validate({**PORTS, **server})
    return Deployment(name="digits", backend="onnx", checkpoints={}, server=section)


def service(**server: Any) -> ServiceSpec:
    made = deployment(**server)
    return launchers.launcher(made).service(made, ("digits",), WORKER)


def checks(tools: ToolFacts | None = None, **server: Any) -> dict[str, Verdict]:
    made = deployment(**server)
    start = launchers.launcher(made)
    found = start.checks(made, host(), tools or start.expected(made))
    return {verdict.check: verdict for verdict in found}


# ---------------------------------------------------------------------------- commands


@pytest.mark.parametrize("launcher", ["embedded", "local"])
@pytest.mark.parametrize("gpus", ["", "all", "1,3"])
def test_a_server_of_this_host_sees_the_gpus_that_nvml_numbers_so(launcher: str, gpus: str) -> None:
    env = service(launcher=launcher, gpus=gpus).process.env
    chosen = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,3"}
    assert {name: env[name] for name in chosen if name in env} == (chosen if gpus == "1,3" else {})


def test_a_local_server_is_started_by_the_worker_with_its_program() -> None:
    argv = service(launcher="local", path="/opt/t/bin/tritonserver").process.argv
    assert argv[:5] == (
        "${env_embedded}/bin/python",
        WORKER,
        "--program=/opt/t/bin/tritonserver",
        "--token-file=${token_file}",
        "--token-header=triton-access-token",
    )
    assert "--http-address=127.0.0.1" in argv and "--model-control-mode=explicit" in argv


def test_a_container_listens_inside_and_is_published_on_loopback() -> None:
    made = service(launcher="container", image="24.10-py3", gpus="0,1")
    assert made.process.runtime == "image:server" and made.process.container is not None
    assert "--http-address=0.0.0.0" in made.process.argv
    published = made.process.container.ports
    assert {port.address for port in published} == {"127.0.0.1"}
    assert [port.host for port in published] == [
        "${http_port}",
        "${grpc_port}",
        "${metrics_port}",
    ]
    assert all(mount.read_only for mount in made.process.container.mounts)
    assert made.process.container.gpus == "0,1"


@pytest.mark.parametrize("launcher", ["embedded", "local", "container"])
def test_no_token_stands_in_any_command_and_the_cloud_endpoints_are_never_asked_for(
    launcher: str,
) -> None:
    argv = service(launcher=launcher).process.argv
    assert not [w for w in argv if "restricted" in w or "sagemaker" in w or "vertex" in w]


@given(
    launcher=st.sampled_from(["embedded", "local", "container"]),
    address=st.sampled_from(["127.0.0.1", "::1", "localhost", "0.0.0.0", "192.0.2.7"]),
    control=st.sampled_from(["explicit", "none"]),
    ranks=st.integers(1, 3),
)
def test_nothing_listens_beyond_loopback_unless_it_was_said(
    launcher: str, address: str, control: str, ranks: int
) -> None:
    wanted: dict[str, Any] = {"launcher": launcher, "address": address, "control": control}
    if control == "none":
        wanted["ranks"] = ranks
    if address not in LOOPBACK:
        with pytest.raises(ValueError, match="expose"):
            service(**wanted)
        wanted["expose"] = True
    made = service(**wanted)
    container = made.process.container
    places = (
        {port.address for port in container.ports}
        if container
        else {w.partition("=")[2] for w in made.process.argv if "-address=" in w}
    )
    assert places <= LOOPBACK or address not in LOOPBACK
    restricted = [w for w in made.process.argv if w.startswith("--restrict=")]
    assert bool(restricted) == (address not in LOOPBACK)
    assert all("model-config" in w and "model-repository" in w for w in restricted)


def test_ranks_are_one_process_each_under_mpirun() -> None:
    made = service(launcher="local", ranks=3, control="none")
    argv = made.process.argv
    assert argv[:5] == ("mpirun", "--allow-run-as-root", "-n", "1", "${env_embedded}/bin/python")
    ranks = " ".join(argv[2:]).split(" : ")
    assert len(ranks) == 3 and all(rank.startswith("-n 1 ") for rank in ranks)
    assert "--model-control-mode=none" in ranks[0] and "--load-model" not in ranks[0]
    for rank in ranks[1:]:
        assert "--model-control-mode=explicit" in rank and "--load-model=digits" in rank
    prefixes = {w for w in argv if "shm-region-prefix-name" in w}
    assert len(prefixes) == 3
    with pytest.raises(ValueError, match="first rank"):
        deployment(ranks=2)


def test_mpirun_gets_every_rank_as_words_of_their_own(tmp_path: Path) -> None:
    """A recorder stands for mpirun: what it is given is what a real one would start."""
    bin_ = tmp_path / "environment" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(sys.executable)
    recorder = bin_ / "mpirun"
    recorder.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$HOME/recorded"\n')
    recorder.chmod(0o755)
    place = "/models/with a space"
    values = {"env_embedded": str(bin_.parent), "work": str(tmp_path), "token_file": "/t"}
    values |= {"repository": place} | {name: str(number) for name, number in PORTS.items()}
    made = service(launcher="local", ranks=2, control="none").process
    command = launch(made, values, load({}), {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    subprocess.run(command.argv, env=command.env, check=True)
    recorded = (tmp_path / "recorded").read_text().split("\0")[:-1]
    assert recorded == list(command.argv[1:])
    assert recorded.count(f"--model-repository={place}") == 2 and recorded.count(":") == 1


def test_what_only_some_releases_take_is_left_to_the_worker() -> None:
    argv = service(allow_client_shm=True, grpc_max_response_pool_size=64).process.argv
    assert "--if-known=--allow-client-shm=true" in argv
    assert "--if-known=--grpc-max-response-pool-size=64" in argv
    assert (
        "--model-load-gpu-limit=1:0.5" in service(model_load_gpu_limit="0:0.9,1:0.5").process.argv
    )


def test_attaching_starts_nothing_and_manages_nothing_unless_told() -> None:
    made = service(launcher="attach", url="https://t:8443/", token_env="KEY", ca_file="/ca.pem")
    assert made.command is None and not made.manage
    assert (made.http_url, made.token_env, made.ca_file) == ("https://t:8443", "KEY", "/ca.pem")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"token_file": "t", "token_env": "T"}, "not both"),
        ({"repository": "/models"}, "manage = true"),
        ({"gpus": "0;rm"}, "indices or UUIDs"),
        ({"model_load_gpu_limit": "0:1.5"}, "GPU:FRACTION"),
        ({"image": "a b"}, "tag"),
        ({"token_header": "a\nb"}, "letters"),
    ],
)
def test_a_value_that_could_not_work_is_refused_in_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        deployment(**wrong)


# ---------------------------------------------------------------------------- verdicts


def test_an_image_is_told_from_the_table_until_it_was_asked() -> None:
    before = checks(launcher="container", image="24.10-py3")
    assert "should carry Triton 2.51.0" in before["server-image"].summary
    asked = ToolFacts(
        triton_version="2.51.0", triton_backends=frozenset({"python"}), triton_program="x"
    )
    after = checks(asked, launcher="container", image="24.10-py3")
    assert after["server-image"].source == "asked inside the image"
    unknown = checks(launcher="container", image="example/mine:1")
    assert unknown["server-image"].level is Level.UNKNOWN


def test_an_old_driver_is_found_out_before_the_image_starts() -> None:
    made = deployment(launcher="container", image="26.07-py3", gpus="all")
    start = launchers.launcher(made)
    old = dataclasses.replace(host(), driver="550.54.15")
    found = {v.check: v for v in start.checks(made, old, start.expected(made))}
    assert found["server-driver"].level is Level.FAIL
    assert "at least 580" in found["server-driver"].figure


def test_a_local_server_of_another_python_names_the_one_that_its_environment_needs() -> None:
    environment = EnvironmentFacts("embedded", Path("/e/bin/python"), "3.11.7", {})
    tools = ToolFacts(
        environments={"embedded": environment}, triton_version="2.60.0", stub_python="3.12"
    )
    found = checks(tools, launcher="local")["server-python"]
    assert found.level is Level.FAIL and "Python 3.12" in found.fix
    missing = checks(ToolFacts(triton_problem="there is no tritonserver"), launcher="local")
    assert missing["server-program"].level is Level.FAIL and set(missing) == {"server-program"}


def test_an_option_that_the_server_lacks_warns_and_names_the_flag() -> None:
    tools = ToolFacts(triton_version="2.51.0", flags={"tritonserver": frozenset({"--http-port"})})
    found = checks(tools, launcher="local", allow_client_shm=True)["server-flag-allow-client-shm"]
    assert found.level is Level.WARN and "--allow-client-shm" in found.summary
    predicted = checks(launcher="container", image="26.07-py3", allow_client_shm=True)
    assert predicted["server-flag-allow-client-shm"].level is Level.PASS


def test_a_token_over_plain_http_to_another_machine_fails() -> None:
    plain = checks(launcher="attach", url="http://192.0.2.7:8000", token_env="KEY")
    assert plain["attach-tls"].level is Level.FAIL
    assert checks(launcher="attach", url="http://192.0.2.7:8000")["attach-tls"].level is Level.WARN
    assert "attach-tls" not in checks(launcher="attach", url="https://192.0.2.7:8000")
    assert checks(launcher="attach")["attach-url"].level is Level.FAIL


# ---------------------------------------------------------------------------- the release table


@pytest.mark.parametrize(
    ("version", "exposed", "level", "holes"),
    [
        ("2.51.0", False, Level.WARN, ("CVE-2025-23319", "CVE-2026-24207")),
        ("2.51.0", True, Level.FAIL, ("CVE-2025-23319", "CVE-2026-24207")),
        ("2.59.1", False, Level.WARN, ("CVE-2026-24207",)),
        ("2.68.0", True, Level.PASS, ()),
        ("2.73.0dev", True, Level.PASS, ()),
        ("", True, Level.UNKNOWN, ()),
    ],
)
def test_the_holes_of_a_release_are_those_that_a_later_one_mends(
    version: str, exposed: bool, level: Level, holes: tuple[str, ...]
) -> None:
    (found,) = releases.safety(version, exposed=exposed)
    assert found.level is level
    assert all(hole in found.figure for hole in holes)
    assert ("CVE-2025-23319" in found.figure) == ("CVE-2025-23319" in holes)


def test_every_release_of_the_table_can_be_named_as_an_image() -> None:
    known = releases.data()
    for tag in known.releases:
        said = releases.expected(f"{tag}-py3")
        assert said.known and said.triton and said.driver and "onnxruntime" in said.backends
    assert releases.expected("24.10-vllm-python-py3").backends == {"ensemble", "python", "vllm"}
    assert releases.NEWEST in known.releases


def test_a_newer_table_of_the_operator_adds_a_release(tmp_path: Path) -> None:
    file = tmp_path / "triton.toml"
    file.write_text(
        'checked = 2026-12-01\n[releases."26.11"]\ntriton = "2.75.0"\npython = "3.12"\n'
        'cuda = "13.4"\nonnxruntime = "1.29.0"\n'
    )
    known = releases.data(file)
    assert known.releases["26.11"].triton == "2.75.0" and "24.10" in known.releases
    file.write_text('[releases."26.11"]\ntriton = "new"\n')
    with pytest.raises(UsageError, match="wrong value"):
        releases.data(file)


# ---------------------------------------------------------------------------- restarts


def test_pauses_grow_and_the_limit_ends_them(tmp_path: Path) -> None:
    spec = service(restart="on-failure", restart_limit=3)
    found = [restarts.after_crash(tmp_path, spec, 1000.0 + i) for i in range(4)]
    assert [made.next and made.next - (1000.0 + i) for i, made in enumerate(found)] == [
        1.0, 2.0, 4.0, None,
    ]  # fmt: skip
    assert found[-1].gave_up
    later = restarts.after_crash(tmp_path, spec, 1000.0 + restarts.WINDOW + 10)
    assert later.next is not None


def test_without_a_policy_nothing_is_started_again(tmp_path: Path) -> None:
    assert restarts.after_crash(tmp_path, service(), 1000.0).next is None
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------- the script


def test_the_script_of_an_attached_server_starts_nothing_and_sends_its_token(
    tmp_path: Path,
) -> None:
    """Run for real: against a server that answers only who brings the header."""
    seen: list[str | None] = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("x-key"))
            self.send_response(200 if seen[-1] == "canary-0123456789" else 403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet: the test's output is not this server's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        spec = service(launcher="attach", url=url, token_env="THEIR_KEY", token_header="x-key")
        step = ServiceStep(
            id="service",
            title="attach",
            service=spec,
            success=(UrlReady(url=f"{spec.http_url}/v2/health/live", timeout=60),),
        )
        variable = Variable(name="repository", kind="path", default="${work}/repository")
        plan = Plan(deployment="seen", backend="onnx", variables=(variable,), steps=(step,))
        env = {"PATH": os.environ["PATH"], "WORK": str(tmp_path), "THEIR_KEY": "canary-0123456789"}
        done = subprocess.run(
            ["bash", "-c", render(plan)], env=env, capture_output=True, text=True, check=False
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert set(seen) == {"canary-0123456789"}
