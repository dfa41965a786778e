"""The ``[server]`` section of a deployment: what serves, where it listens, how it is kept.

A field that only some launchers read names them (``launchers``); the others ignore it, so that
changing the launcher loses nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from console.planning.variables import literal

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
Launcher = Literal["embedded", "local", "container", "attach"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _matching(pattern: str, expected: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(expected)
        return value

    return AfterValidator(check)


Joined = Annotated[
    str, _matching(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,127})?", "the name of a deployment")
]
Port = Annotated[int, Field(ge=0, le=65535)]
Gpus = Annotated[
    str, _matching(r"(all|[A-Za-z0-9-]+(,[A-Za-z0-9-]+)*)?", "all, or indices or UUIDs: 0,1")
]
Size = Annotated[str, _matching(r"([0-9]+[bkmg]?)?", "bytes with an optional b, k, m or g: 2g")]
Image = Annotated[
    str, _matching(r"[\w][\w./:@-]*|", "a tag such as 24.10-py3, or REGISTRY/NAME:TAG")
]
VariableName = Annotated[str, _matching(r"([A-Za-z_][A-Za-z0-9_]{0,99})?", "a variable's name")]
Header = Annotated[str, _matching(r"[A-Za-z][A-Za-z0-9-]*", "letters, digits and '-'")]
GpuLimits = Annotated[
    str,
    _matching(
        r"(\d+:(0(\.\d+)?|1(\.0+)?)(,\d+:(0(\.\d+)?|1(\.0+)?))*)?", "GPU:FRACTION, … such as 0:0.9"
    ),
]


def _of(*launchers: Launcher) -> dict[str, JsonValue]:
    """Marks a field that only these launchers read; a form shows it with them alone."""
    return {"launchers": list(launchers)}


_STARTED = _of("embedded", "local", "container")
_CONTAINER = _of("container")
_LOCAL = _of("local")
_RANKS = _of("local", "container")
_ATTACH = _of("attach")


class ServerSection(Section):
    """How the model is served. Port 0 means: find a free one when the server starts.

    As long as it is because each field carries its help; below them stand only what two fields say
    together and what is held between them.
    """

    launcher: Launcher = Field(
        "embedded",
        title="Launcher",
        description="What starts Triton: the server inside the nvidia-pytriton wheel, a local "
        "installation, a container; or nothing, for one that runs already.",
    )
    join: Joined = Field(
        "",
        title="Join",
        json_schema_extra=_STARTED,
        description="Name of another deployment whose running server takes this one's models: "
        "nothing is started or restarted, and the rest of this section is that deployment's.",
    )
    http_port: Port = Field(
        8000,
        title="HTTP port",
        json_schema_extra=_STARTED,
        description="Port for HTTP requests; 0 takes a free one.",
    )
    grpc_port: Port = Field(
        8001,
        title="gRPC port",
        json_schema_extra=_STARTED,
        description="Port for gRPC requests; 0 takes a free one.",
    )
    metrics_port: Port = Field(
        8002,
        title="Metrics port",
        json_schema_extra=_STARTED,
        description="Port for Prometheus figures; 0 takes a free one.",
    )
    control: Literal["explicit", "none"] = Field(
        "explicit",
        title="Model control",
        json_schema_extra=_STARTED,
        description="explicit: models are loaded and unloaded by request. none: Triton loads "
        "everything in its repository when it starts.",
    )
    load_timeout: Annotated[float, Field(gt=0, le=86_400)] = Field(
        120.0,
        title="Load time limit",
        description="How long one model may take to load.",
        json_schema_extra={"unit": "s"},
    )
    log_verbose: Annotated[int, Field(ge=0, le=9)] = Field(
        0,
        title="Log verbosity",
        json_schema_extra=_STARTED,
        description="Triton's own verbose logging; 0 is off.",
    )
    address: str = Field(
        "127.0.0.1",
        title="Address",
        json_schema_extra=_STARTED,
        description="Where it listens. Anything but loopback needs `expose`.",
    )
    expose: bool = Field(
        False,
        title="Expose",
        json_schema_extra=_STARTED,
        description="Allow an address that other machines reach. Triton asks nobody who they are. "
        "The check `exposure` must be accepted by name then.",
    )
    image: Image = Field(
        "",
        title="Image",
        json_schema_extra=_CONTAINER,
        description="Container: the image, as a tag of NVIDIA's Triton images (24.10-py3) or a full "
        "name. Empty takes the newest -py3 release that is known here.",
    )
    image_digest: Annotated[str, _matching(r"(sha256:[0-9a-f]{64})?", "sha256: and 64 digits")] = (
        Field(
            "",
            title="Image digest",
            json_schema_extra=_CONTAINER,
            description="Container: pins the image to exactly this content.",
        )
    )
    image_tar: str = Field(
        "",
        title="Image archive",
        json_schema_extra=_CONTAINER,
        description="Container: a file of `docker save` to load the image from, where no registry "
        "is reached.",
    )
    engine: Literal["auto", "docker", "podman"] = Field(
        "auto",
        title="Container engine",
        json_schema_extra=_CONTAINER,
        description="auto takes docker when its daemon answers, else podman.",
    )
    gpus: Gpus = Field(
        "",
        title="GPUs",
        json_schema_extra=_STARTED,
        description="Container: all, or indices or UUIDs with commas between. Local and embedded: "
        "which GPUs the server sees (CUDA_VISIBLE_DEVICES). Empty: none in a container, every one "
        "elsewhere.",
    )
    shm_size: Size = Field(
        "1g",
        title="Shared memory",
        json_schema_extra=_CONTAINER,
        description="Container: size of its /dev/shm.",
    )
    memory: Size = Field(
        "",
        title="Memory limit",
        json_schema_extra=_CONTAINER,
        description="Container: what it may use at most; empty: no limit.",
    )
    path: str = Field(
        "",
        title="Server program",
        json_schema_extra=_LOCAL,
        description="Local: the tritonserver program; empty looks on PATH and in /opt/tritonserver.",
    )
    backend_directory: str = Field(
        "",
        title="Triton backends",
        json_schema_extra=_LOCAL,
        description="Local: the folder of Triton's backends; empty takes the one beside the program.",
    )
    ranks: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        title="Ranks",
        json_schema_extra=_RANKS,
        description="Processes of one server under mpirun, one for each GPU of a model that "
        "TensorRT-LLM spreads over several.",
    )
    url: str = Field(
        "",
        title="URL",
        json_schema_extra=_ATTACH,
        description="Attach: where the server answers, http://HOST:PORT or https.",
    )
    grpc_url: str = Field(
        "",
        title="gRPC address",
        json_schema_extra=_ATTACH,
        description="Attach: HOST:PORT of its gRPC endpoint, if any.",
    )
    metrics_url: str = Field(
        "",
        title="Metrics URL",
        json_schema_extra=_ATTACH,
        description="Attach: where its figures are; empty: not read.",
    )
    ca_file: str = Field(
        "",
        title="CA file",
        json_schema_extra=_ATTACH,
        description="Attach over https: certificates to trust in place of the system's.",
    )
    token_file: str = Field(
        "",
        title="Token file",
        json_schema_extra=_ATTACH,
        description="Attach: a 0600 file with the server's token.",
    )
    token_env: VariableName = Field(
        "",
        title="Token variable",
        json_schema_extra=_ATTACH,
        description="Attach: name of the environment variable that holds the token.",
    )
    token_header: Header = Field(
        "triton-access-token",
        title="Token header",
        json_schema_extra=_ATTACH,
        description="Attach: the header that the server expects the token in.",
    )
    manage: bool = Field(
        False,
        title="Manage",
        json_schema_extra=_ATTACH,
        description="Attach: models may be loaded and unloaded there. Without it the server is "
        "only observed and asked. It is never stopped from here.",
    )
    repository: str = Field(
        "",
        title="Its repository",
        json_schema_extra=_ATTACH,
        description="Attach with manage: the server's model repository as this machine sees it.",
    )
    allow_client_shm: bool = Field(
        False,
        title="Clients' shared memory",
        json_schema_extra=_STARTED,
        description="Let clients register shared memory. Servers before 26.04 always do, behind the "
        "token; later ones only with this.",
    )
    model_load_gpu_limit: GpuLimits = Field(
        "",
        title="GPU memory limit for loads",
        json_schema_extra=_STARTED,
        description="GPU:FRACTION, … such as 0:0.9. A load is refused while more than this part of "
        "the GPU's memory is in use.",
    )
    grpc_max_response_pool_size: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        title="gRPC response pool",
        json_schema_extra=_STARTED,
        description="Most answers of a stream that wait for a slow client (25.03 and later); 0 is "
        "Triton's default, without a bound.",
    )
    restart: Literal["no", "on-failure"] = Field(
        "no",
        title="Restart",
        json_schema_extra=_STARTED,
        description="on-failure: a server that crashes is started again, with its models, after a "
        "growing pause.",
    )
    restart_limit: Annotated[int, Field(ge=1, le=100)] = Field(
        5,
        title="Restarts",
        json_schema_extra=_STARTED,
        description="How often in an hour, before it stays down.",
    )
    probe_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        30.0,
        title="Probe interval",
        description="How often a served model is asked the request that verified it, so that one "
        "that has silently died is noticed. 0: never.",
        json_schema_extra={"unit": "s"},
    )

    @property
    def visible_gpus(self) -> dict[str, str]:
        """Variables that leave a process of this host the GPUs of `gpus`, none for every GPU. They are
        NVML's numbers, and CUDA itself counts the fastest first."""
        if self.gpus in ("", "all"):
            return {}
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": literal(self.gpus)}

    @property
    def exposed(self) -> bool:
        """Whether others than this machine reach it."""
        return self.launcher != "attach" and self.address not in LOOPBACK

    @model_validator(mode="after")
    def _loopback_or_said(self) -> ServerSection:
        if self.address not in LOOPBACK and not self.expose:
            raise ValueError(
                f"address {self.address} is not loopback: set expose = true to mean it"
            )
        ports = [p for p in (self.http_port, self.grpc_port, self.metrics_port) if p]
        if len(set(ports)) != len(ports):
            raise ValueError("http_port, grpc_port and metrics_port must differ")
        return self

    @model_validator(mode="after")
    def _whole(self) -> ServerSection:
        if self.token_file and self.token_env:
            raise ValueError("give token_file or token_env, not both")
        if self.repository and not self.manage:
            raise ValueError("a repository to write into needs manage = true")
        if self.ranks > 1 and self.control == "explicit":
            raise ValueError(
                'ranks need control = "none": a load request reaches the first rank alone'
            )
        return self
