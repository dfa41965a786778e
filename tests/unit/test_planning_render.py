"""A deployment printed for other ways of running it: each format against its own grammar."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from console import settings
from console.desk.desk import Desk
from console.desk.render import FORMATS
from console.facts import UsageError
from console.planning.deployment import Deployment
from tests import shell

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "deployment.toml"
SCHEMA = json.loads((ROOT / "tests" / "assets" / "compose-spec.json").read_text())
"""Draft 7, as its first line says in a spelling that the validator does not know."""
KUBERNETES = "1.31"
ELSEWHERE = [form for form in FORMATS if form != "script"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    home = tmp_path_factory.mktemp("it's a $HOME, 100% odd")
    return Desk(settings.load({"TRITONDECK_HOME": str(home)}))


def digits(desk: Desk, **server: Any) -> Deployment:
    made = desk.open(str(DIGITS))
    return made.model_copy(update={"server": made.server.model_copy(update=server)})


def compose(desk: Desk, **server: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(desk.render(digits(desk, **server), "compose"))
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    return document


def manifests(desk: Desk, **server: Any) -> dict[str, dict[str, Any]]:
    documents = list(yaml.safe_load_all(desk.render(digits(desk, **server), "kubernetes")))
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    return {document["kind"]: document for document in documents}


def pod(desk: Desk, **server: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    spec = manifests(desk, **server)["Deployment"]["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


@pytest.mark.parametrize("form", ["docker", "slurm", "script"])
@pytest.mark.parametrize("launcher", ["embedded", "container"])
def test_scripts_are_clean_under_shellcheck(desk: Desk, form: str, launcher: str):
    text = desk.render(digits(desk, launcher=launcher, gpus="0,1"), form)
    shell.clean(text)


def test_the_manifests_are_of_the_kinds_that_a_server_needs(desk: Desk):
    found = manifests(desk)
    assert list(found) == ["ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"]


def test_each_probe_asks_its_own_endpoint(desk: Desk):
    _, container = pod(desk, load_timeout=300)
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in PROBES}
    assert paths == PROBES
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


PROBES = {
    "startup": "/v2/health/live",
    "liveness": "/v2/health/live",
    "readiness": "/v2/health/ready",
}


def test_a_pod_is_locked_down_and_has_shared_memory(desk: Desk):
    spec, container = pod(desk, shm_size="2g")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts >= {"/dev/shm", "/tmp", "/models"}


def test_gpus_are_asked_for_as_a_resource(desk: Desk):
    assert "resources" not in pod(desk)[1]
    assert pod(desk, gpus="0,1")[1]["resources"]["limits"] == {"nvidia.com/gpu": 2}


def test_in_a_cluster_only_health_metadata_and_inference_are_open(desk: Desk):
    (groups,) = [word for word in pod(desk)[1]["args"] if word.startswith("--restrict=")]
    assert {"model-repository", "statistics", "model-config"} <= set(
        groups.removeprefix("--restrict=").split(",")
    )


def test_every_model_is_loaded_when_the_server_starts(desk: Desk):
    """Nobody is there to send a load request; what others call comes first."""
    for words in (pod(desk)[1]["args"], compose(desk)["services"]["triton"]["command"]):
        loads = [word for word in words if word.startswith("--load-model=")]
        assert loads == ["--load-model=digits_acoustic", "--load-model=digits"]


def test_compose_publishes_on_loopback_alone(desk: Desk):
    ports = compose(desk)["services"]["triton"]["ports"]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_gives_the_gpus_that_were_chosen(desk: Desk):
    service = compose(desk, gpus="0,GPU-1a")["services"]["triton"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0", "GPU-1a"], "capabilities": ["gpu"]}


def test_compose_fills_in_nothing_that_is_ours(desk: Desk):
    """It takes ``$`` for a variable, in the worker's source and in paths as well."""
    document = compose(desk)
    worker = document["configs"]["triton-server"]["content"]
    source = (ROOT / "backends" / "workers" / "triton_server.py").read_text()
    assert worker.replace("$$", "$") == source
    (volume,) = document["services"]["triton"]["volumes"]
    assert "$$HOME" in volume["source"]


@pytest.mark.parametrize("form", ["systemd", "systemd-user"])
@pytest.mark.parametrize("launcher", ["embedded", "container"])
def test_systemd_takes_the_unit(desk: Desk, tmp_path: Path, form: str, launcher: str):
    text = desk.render(digits(desk, launcher=launcher), form)
    unit = tmp_path / "tritondeck-digits.service"
    unit.write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # The environment is not made in this test; anything else that is said is a fault.
    said = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert said == []


def test_the_systems_unit_is_confined_and_both_come_back(desk: Desk):
    system = desk.render(digits(desk), "systemd")
    assert "\nProtectSystem=strict\n" in system
    assert "\nIPAddressDeny=any\n" in system
    assert "\nWantedBy=multi-user.target\n" in system
    user = desk.render(digits(desk), "systemd-user")
    assert "enable-linger" in user
    assert "\nUser=" not in user
    for unit in (system, user):
        assert "\nNoNewPrivileges=yes\n" in unit
        assert "\nRestart=on-failure\n" in unit


@pytest.mark.parametrize("form", ELSEWHERE)
def test_no_format_holds_a_token(desk: Desk, form: str):
    """Each names where the token stands; the server reads it there."""
    text = desk.render(digits(desk), form)
    assert "--token-file=" in text
    assert "http-restricted-api=model" not in text


@pytest.mark.parametrize("form", ["docker", "compose", "kubernetes"])
def test_an_embedded_server_gets_the_image_of_its_release_and_says_so(desk: Desk, form: str):
    text = desk.render(digits(desk), form)
    assert "nvcr.io/nvidia/tritonserver:24.10-py3" in text
    assert "# The deployment's launcher is embedded" in text
    assert "this runs its server in the image" not in desk.render(
        digits(desk, launcher="container"), form
    )


@pytest.mark.parametrize("form", ELSEWHERE)
def test_a_deployment_without_a_server_of_its_own_is_refused(desk: Desk, form: str):
    desk.save(digits(desk))
    guest = digits(desk, join="digits").model_copy(update={"name": "guest"})
    with pytest.raises(UsageError, match="starts no server"):
        desk.render(guest, form)


def test_an_unknown_format_is_named_with_those_that_there_are(desk: Desk):
    with pytest.raises(UsageError, match="no format nomad"):
        desk.render(digits(desk), "nomad")


@pytest.mark.parametrize("form", ["docker", "compose", "kubernetes"])
@pytest.mark.parametrize("example", ["deployment", "ray"])
def test_a_format_for_triton_refuses_another_server_in_words(desk: Desk, form: str, example: str):
    made = desk.open(str(ROOT / "examples" / "facts" / f"{example}.toml"))
    with pytest.raises(UsageError, match="another server") as refusal:
        desk.render(made, form)
    assert "--as script" in refusal.value.fix


def test_a_server_that_is_not_triton_is_ready_under_slurm_when_it_says_so(desk: Desk):
    text = desk.render(desk.open(str(ROOT / "examples" / "facts" / "deployment.toml")), "slurm")
    assert '"http://127.0.0.1:$HTTP_PORT/v1/health"' in text


@pytest.mark.parametrize("form", ["docker", "compose", "kubernetes", "slurm"])
def test_what_a_server_reads_beside_its_repository_is_there_in_every_form(
    desk: Desk, form: str
) -> None:
    """An engine and a tokenizer lie outside of the repository; two ranks load what is theirs."""
    made = desk.open(str(ROOT / "examples" / "facts" / "trtllm-engine.toml"))
    options = {**made.options, "tensor_parallel_size": 2}
    text = desk.render(made.model_copy(update={"options": options}), form)
    assert "/work/facts-engine/engine" in text and str(ROOT / "examples" / "facts") in text
    assert text.count("--load-model") == 1
    if form in ("docker", "slurm"):
        shell.clean(text)
    if form == "compose":
        jsonschema.Draft7Validator(SCHEMA).validate(yaml.safe_load(text))
    if form == "kubernetes":
        for document in yaml.safe_load_all(text):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_route_that_needs_an_image_of_its_own_is_rendered_in_it(desk: Desk) -> None:
    made = desk.open(str(ROOT / "examples" / "facts" / "trtllm-engine.toml"))
    bare = made.model_copy(update={"server": type(made.server)()})
    assert "-trtllm-python-py3" in desk.render(bare, "docker")
