"""A desk that answers from memory with the real dataclasses, for what no test machine can show.

A GPU, a failed build and a half-loaded model cannot be had on demand; these screens' looks need
them. Behaviour against files and processes is tested with the real desk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.desk import form
from console.desk.attached import AttachedServer
from console.desk.desk import (
    CheckReport,
    DeploymentView,
    Desk,
    OptionField,
    OptionProblem,
    RouteView,
)
from console.desk.views import ContainerView, ServerView, VersionsView, VersionView
from console.facts import (
    CancelCheck,
    DeckError,
    Endpoint,
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    Level,
    ModelMetadata,
    Progress,
    PromptField,
    Refused,
    TensorAnswer,
    TensorSpec,
    TensorValue,
    UsageError,
    Verdict,
)
from console.planning.deployment import Deployment
from console.runs.model import RunState, RunView, StepState, StepView
from console.runtimes.host import Launch
from console.services.lifecycle import Lifecycle, Phase
from console.services.model import ServiceState, ServiceView
from console.telemetry.sample import GpuSample, Sample
from console.triton.health import ModelState, ServerHealth

NOW = 1_790_000_000.0
GIB = 2**30


class Options(BaseModel):
    """Options of the double's route."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = "cpu"
    opset: int = Field(17, ge=11, le=21)
    max_batch_size: int = Field(8, ge=0, le=1024)
    dynamic_batching: bool = True
    max_delay: int = Field(2000, ge=0, le=1_000_000)
    instances: int = Field(1, ge=1, le=64)
    word_times: bool = False


FIELDS = (
    OptionField(
        "device", "Device", "Where ONNX Runtime computes.", "Model", "choice", "cpu", ("cpu", "gpu")
    ),
    OptionField(
        "opset",
        "ONNX opset",
        "Operator set of the exported graph.",
        "Model",
        "int",
        17,
        minimum=11,
        maximum=21,
        flag="onnx_opset_version",
    ),
    OptionField(
        "word_times", "Word times", "Give each word's start and end too.", "Model", "bool", False
    ),
    OptionField(
        "max_batch_size",
        "Largest batch",
        "0 means: no batching by Triton.",
        "Batching",
        "int",
        8,
        minimum=0,
        maximum=1024,
        flag="max_batch_size",
    ),
    OptionField(
        "dynamic_batching",
        "Dynamic batching",
        "Triton gathers requests into batches.",
        "Batching",
        "bool",
        True,
        flag="dynamic_batching",
    ),
    OptionField(
        "max_delay",
        "Longest delay",
        "How long a request may wait for others.",
        "Batching",
        "int",
        2000,
        minimum=0,
        maximum=1_000_000,
        unit="µs",
        flag="max_queue_delay_microseconds",
    ),
    OptionField(
        "instances",
        "Instances",
        "Copies of the model that answer at the same time.",
        "Server",
        "int",
        1,
        minimum=1,
        maximum=64,
        flag="instance_group.count",
    ),
)


class Prompt:
    """A speech model's form."""

    fields = (
        PromptField(
            "sound",
            FieldKind.SOUND,
            "Sound file",
            "WAV, any rate; at most 20 s.",
            default="/data/seven.wav",
        ),
        PromptField(
            "times", FieldKind.FLAG, "Word times", "Start and end of each word.", required=False
        ),
    )

    def __init__(self, poison: str = "") -> None:
        self._poison = poison

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        if not values["sound"]:
            raise UsageError("no sound file is given", fix="pick one with ctrl+f")
        sound = TensorValue("WAV", "BYTES", (1, 1), values=(values["sound"],))
        return InferenceRequest("digits", (sound,))

    def answer(self, answer: InferenceAnswer) -> str:
        return str(answer.outputs[0].values[0])


class CheckpointDouble(Desk):
    """What comes before a run; `poison` is put into every string that is not ours."""

    def __init__(self, settings: Any, poison: str = "") -> None:
        super().__init__(settings)
        self.poison = poison
        self.run_state = RunState.RUNNING
        self.blocks = False
        self.phase = Phase.SERVING
        self.contained = False
        self.control = False
        self.needed = False
        self.calls: list[str] = []
        self._folder = Path("/opt/checkpoints")
        self.log = settings.folders.state / "export.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text(_LOG + (f"{poison}\n" if poison else ""))

    def _p(self, text: str) -> str:
        return text + self.poison

    # -- inspect

    def inspect(self, path: Path) -> Checkpoint:
        return next(c for c in self.browse(self._folder) if c.path == path)

    def _speech(self, folder: Path) -> Checkpoint:
        p = self._p
        return Checkpoint(
            folder / p("spoken_digits.nemo"),
            Format.NEMO,
            p("NeMo speech model · Conformer CTC"),
            p("EncDecCTCModelBPE"),
            "speech-to-text",
            3_700_000,
            912_000,
            p("fp32"),
            p("2.7.3"),
            details=(
                ("parameters", "0.91 M"),
                ("decoder", p("CTC, 32 tokens (bpe)")),
                ("sound", "16 kHz, at most 20 s"),
                ("encoder", p("4 layers, 144 wide, subsampling 4")),
                ("saved by", p("NeMo 2.7.3")),
            ),
            risks=(
                Risk(
                    "pickle",
                    Severity.WARN,
                    p("the weights are a pickle: NeMo would run code in them"),
                    p("build it only from a source that you trust"),
                ),
            ),
        )

    def browse(self, folder: Path, cancelled: CancelCheck | None = None) -> tuple[Checkpoint, ...]:
        p = self._p
        self._folder = folder
        speech = self._speech(folder)
        return (
            Checkpoint(folder / p("archive"), Format.UNKNOWN, p("archive"), task="folder"),
            Checkpoint(
                folder / p("clip.onnx"),
                Format.ONNX,
                p("ONNX graph"),
                size=351_000_000,
                dtype="fp32",
            ),
            Checkpoint(
                folder / p("facts_llama"),
                Format.HUGGING_FACE,
                p("Hugging Face model · llama"),
                p("LlamaForCausalLM"),
                "text-generation",
                5_800_000,
                1_400_000,
                "fp32",
                risks=(
                    Risk(
                        "auto-map", Severity.DANGER, p("this model runs its own code: modeling.py")
                    ),
                ),
            ),
            Checkpoint(
                folder / p("hf_llama31_8B_nemo2.nemo"),
                Format.NEMO2,
                p("NeMo 2.0 folder · llama"),
                "",
                "text-generation",
                16_100_000_000,
                8_030_000_000,
                "bf16",
            ),
            Checkpoint(
                folder / p("indicconformer_hi.nemo"),
                Format.NEMO,
                p("NeMo speech model · hybrid"),
                "",
                "speech-to-text",
                520_000_000,
                130_000_000,
                "fp32",
            ),
            Checkpoint(folder / p("notes.txt"), Format.UNKNOWN, p("not a checkpoint"), size=812),
            speech,
        )

    def routes(self, checkpoints: Mapping[str, Checkpoint]) -> tuple[RouteView, ...]:
        p = self._p
        return (
            RouteView(
                "onnx",
                p("NeMo speech or ONNX → Triton with ONNX Runtime"),
                Verdict("route", Level.PASS, p("speech to text through its CTC head")),
                "tritondeck 0.1.0",
            ),
            RouteView(
                "nemo-tensorrt-llm",
                p("NeMo language model → TensorRT-LLM"),
                Verdict("route", Level.FAIL, p("not a language model"), fix=p("use onnx")),
                "acme-routes 1.2",
            ),
        )

    # -- configure

    def option_fields(self, backend: str) -> tuple[OptionField, ...]:
        p = self._p
        return tuple(replace(f, title=p(f.title), help=p(f.help)) for f in FIELDS)

    def form_fields(self, deployment: Deployment) -> tuple[OptionField, ...]:
        own = self.option_fields(deployment.backend)
        plain = deployment.model_copy(update={"backend": "onnx", "options": {}})
        rest = form.fields(plain, ("facts",))
        return (*own, *(f for f in rest if "." in f.name))

    def form_values(self, deployment: Deployment) -> dict[str, Any]:
        sections = form.values(deployment.model_copy(update={"backend": "onnx", "options": {}}))
        kept = {k: v for k, v in sections.items() if "." in k}
        return {**self.options(deployment).model_dump(), **kept}

    def draft(
        self, checkpoint: Path, backend: str = "", name: str = "", profile: str = ""
    ) -> Deployment:
        return Deployment(
            name=name or "digits",
            backend=backend or "onnx",
            checkpoints={"model": str(checkpoint)},
            options=Options().model_dump(),
        )

    def with_options(
        self, deployment: Deployment, changes: Mapping[str, Any]
    ) -> tuple[Deployment, tuple[OptionProblem, ...]]:
        sections = {k: v for k, v in changes.items() if "." in k}
        changes = {k: v for k, v in changes.items() if "." not in k}
        deployment, wrong = form.change(deployment, sections)
        if wrong:
            return deployment, wrong
        try:
            bound = Options.model_validate({**deployment.options, **changes})
        except ValidationError as error:
            return deployment, tuple(
                OptionProblem(str(e["loc"][0]), self._p(e["msg"])) for e in error.errors()
            )
        return deployment.model_copy(update={"options": bound.model_dump()}), ()

    def options(self, deployment: Deployment) -> BaseModel:
        return Options.model_validate(deployment.options)

    def open(self, name_or_file: str) -> Deployment:
        return self.draft(Path("/opt/checkpoints") / self._p("spoken_digits.nemo"), name="digits")

    def save(self, deployment: Deployment, file: Path | None = None) -> Path:
        self.calls.append(f"save {deployment.name}")
        return Path(self._p("/state/deployments/digits.toml"))

    def forget(self, name: str) -> None:
        self.calls.append(f"forget {name}")


class ChoosingDouble(CheckpointDouble):
    """Checks and the script."""

    def check(self, deployment: Deployment, progress: Progress | None = None) -> CheckReport:
        return self._report("shared-memory" not in deployment.checks.accept)

    def server_verdicts(self, deployment: Deployment) -> tuple[Verdict, ...]:
        """What the real desk says of a machine with docker, an image that is not there, and nginx."""
        p, server = self._p, deployment.server
        taken = Verdict(
            "port-http", Level.FAIL, p("http port 8000 is taken by nginx (412)"), "8000",
            fix=p("set server.http_port to 0 (any free one) or another number"),
            option="server.http_port",
        )  # fmt: skip
        found = [taken] if server.http_port == 8000 else []
        for kind, number in (("grpc", server.grpc_port), ("metrics", server.metrics_port)):
            words = p(f"{kind} port {number} is free")
            found.append(Verdict(f"port-{kind}", Level.PASS, words, option=f"server.{kind}_port"))
        if server.launcher == "container":
            image = p("the image nvcr.io/nvidia/tritonserver:26.07-py3 will be pulled first")
            found += [
                Verdict("container-image", Level.WARN, image, option="server.image"),
                Verdict(
                    "container-engine", Level.PASS, p("the container engine answers"),
                    p("docker 27.1.1"), option="server.engine",
                ),
                Verdict(
                    "server-image", Level.PASS, p("the image should carry Triton 2.71.0"),
                    p("Triton backends: onnxruntime, python"), option="server.image",
                ),
            ]  # fmt: skip
        return tuple(found)

    def doctor(self) -> CheckReport:
        return self._report(False)

    def _passes(self) -> tuple[Verdict, ...]:
        p = self._p
        return (
            Verdict(
                "libpython",
                Level.PASS,
                p("shared libpython is found"),
                p("libpython3.11.so.1.0"),
                p("sysconfig LIBDIR"),
            ),
            Verdict(
                "disk",
                Level.PASS,
                p("room for the export and its environment"),
                p("41 GiB free, 7.2 GiB needed"),
                p("statvfs"),
            ),
            Verdict(
                "memory",
                Level.PASS,
                p("host memory for export and server"),
                p("19 GiB free, 2.4 GiB needed"),
                p("export peak of the reference runs"),
            ),
            Verdict(
                "environment-nemo",
                Level.PASS,
                p("environment nemo is ready"),
                p("nemo_toolkit 2.7.3, torch 2.13.0"),
                p("its lock file"),
            ),
            Verdict(
                "environment-embedded",
                Level.PASS,
                p("environment embedded is ready"),
                p("Triton 2.51.0"),
                p("its lock file"),
            ),
        )

    def _report(self, fails: bool) -> CheckReport:
        p = self._p
        shm = Verdict(
            "shared-memory",
            Level.FAIL,
            p("/dev/shm is smaller than two ranks need"),
            p("64 MiB, 2.1 GiB needed"),
            p("statvfs /dev/shm"),
            p("set shm to 4 GiB"),
            "options.instances",
            accepted=not fails,
        )
        found = (
            *((shm,) if self.blocks else ()),
            Verdict(
                "port-http",
                Level.WARN,
                p("another program listens on 8000; 8010 is taken instead"),
                p("8000 → 8010"),
                p("/proc/net/tcp: nginx (412)"),
                p("stop it, or choose the port"),
                "server.http_port",
            ),
            Verdict(
                "gpu",
                Level.UNKNOWN,
                p("no NVIDIA driver on this host"),
                "",
                p("NVML"),
                p("the embedded server runs on the CPU"),
            ),
            *self._passes(),
        )
        return CheckReport(found, 0.94)

    def script(self, deployment: Deployment) -> str:
        return (
            _SCRIPT.replace("8 \\", f"{deployment.options.get('max_batch_size', 8)} \\")
            + self.poison
        )


class RunningDouble(ChoosingDouble):
    """Runs, one in each state that is asked for."""

    def deploy(self, deployment: Deployment, *, from_step: str = "", force: bool = False) -> str:
        self.calls.append(f"deploy {deployment.name}")
        if deployment.name == "refused":
            raise Refused("a check refused this deployment", why="disk", fix="free some")
        return "run-1"

    def runs(self, deployment: str = "") -> tuple[RunView, ...]:
        return (self.run("run-1"),)

    def run(self, run_id: str) -> RunView:
        return self._run(self.run_state)

    def _steps(self, state: RunState) -> tuple[StepView, ...]:
        p = self._p
        done, pending = StepState.DONE, StepState.PENDING
        export = {
            RunState.RUNNING: StepState.RUNNING,
            RunState.FAILED: StepState.FAILED,
            RunState.CANCELLED: StepState.CANCELLED,
        }.get(state, done)
        rest = done if state is RunState.SUCCEEDED else pending
        return (
            StepView(
                "environment-nemo",
                p("Environment nemo"),
                "environment",
                StepState.SKIPPED,
                "NeMo in an environment of its own.",
                NOW - 680,
                0.1,
                reason="unchanged: nemo_toolkit 2.7.3",
            ),
            StepView(
                "environment-embedded",
                p("Environment embedded"),
                "environment",
                done,
                "",
                NOW - 679,
                41.2,
            ),
            StepView(
                "export",
                p("Export to ONNX"),
                "command",
                export,
                p("NeMo writes the encoder and decoder as one ONNX graph."),
                NOW - 638,
                93.0,
                0.43 if export is StepState.RUNNING else 1.0,
                p("tracing the encoder"),
                p("the graph differs from PyTorch by 0.02, more than 0.001")
                if export is StepState.FAILED
                else "",
                p("export with opset 17") if export is StepState.FAILED else "",
                log=self.log,
            ),
            StepView("repository", p("Model repository"), "write", rest, "", None, None),
            StepView("serve", p("Start Triton"), "service", rest, "", None, None, log=self.log),
            StepView("load", p("Load the model"), "load", rest, "", None, None),
            StepView("verify", p("Verify with a known sound"), "verify", rest, "", None, None),
        )

    def _run(self, state: RunState) -> RunView:
        p = self._p
        steps = self._steps(state)
        failed = state is RunState.FAILED
        return RunView(
            "run-1",
            "digits",
            3,
            state,
            Path("/state/runs/run-1"),
            steps,
            NOW - 680,
            680.0,
            p("Export to ONNX: the graph differs from PyTorch by 0.02, more than 0.001")
            if failed
            else "",
            p("export with opset 17") if failed else "",
            "svc-1" if state is RunState.SUCCEEDED else "",
            p("seven three one") if state is RunState.SUCCEEDED else "",
            4242,
        )

    def cancel(self, run_id: str) -> None:
        self.calls.append(f"cancel {run_id}")
        self.run_state = RunState.CANCELLED

    def retry(self, run_id: str, from_step: str = "") -> str:
        self.calls.append(f"retry {run_id} {from_step}".rstrip())
        self.run_state = RunState.RUNNING
        return run_id

    def telemetry(self, run_id: str) -> tuple[Sample, ...]:
        return tuple(
            Sample(
                NOW - 680 + 4 * n,
                int((3 + 2.2 * min(1, n / 60)) * GIB),
                24 * GIB,
                55.0,
                (self._gpu(0, 8 + n // 4), self._gpu(1, 9)),
                tree_rss=int((0.4 + min(2.1, n / 40)) * GIB),
            )
            for n in range(170)
        )

    def _gpu(self, index: int, used: int) -> GpuSample:
        return GpuSample(index, self._p("NVIDIA H200"), 141 * GIB, used * GIB, 40)

    def sample(self) -> Sample:
        return Sample(NOW, 5 * GIB, 24 * GIB, 12.0, (self._gpu(0, 61), self._gpu(1, 9)))


class ServingDouble(RunningDouble):
    """What happens to a server."""

    def services(self) -> tuple[ServiceView, ...]:
        return (self.service("svc-1"),)

    def service(self, name_or_id: str) -> ServiceView:
        where = Endpoint(
            "http://127.0.0.1:8000",
            grpc_url="127.0.0.1:8001",
            metrics_url="http://127.0.0.1:8002/metrics",
            token_file=Path("/state/token"),
            ours=True,
        )
        state = ServiceState.STOPPED if "stop svc-1" in self.calls else ServiceState.RUNNING
        return ServiceView(
            "svc-1",
            "digits",
            "embedded",
            state,
            Path("/state/services/svc-1"),
            self.log,
            where,
            Path("/state/work/digits/repository"),
            ("digits",),
            4243,
            NOW - 172800,
            172800.0,
        )

    def health(self, endpoint: Endpoint) -> ServerHealth:
        p = self._p
        return ServerHealth(
            True,
            True,
            (
                ModelState("digits", "1", "READY", p(""), True),
                ModelState("punctuation", "1", "LOADING", "", False),
                ModelState(
                    "clip",
                    "",
                    "UNAVAILABLE",
                    p("failed to load 'clip': no onnxruntime backend"),
                    False,
                ),
            ),
            p("2.51.0"),
        )

    def server(self, name_or_id: str, deployment: str = "") -> ServerView:
        """In the phase that `phase` says; with `contained` in a container."""
        p = self._p
        if name_or_id == "attached:lab":
            return self._lab()
        view = self.service(name_or_id)
        if view.state is ServiceState.STOPPED:
            return ServerView(view, Lifecycle(Phase.STOPPED, "stopped on request"))
        life = {
            Phase.STARTING: Lifecycle(
                Phase.STARTING, "it does not answer yet", last_line=p("TRITONBACKEND_Initialize: python")
            ),
            Phase.DEGRADED: Lifecycle(
                Phase.DEGRADED, p("digits: its process was ended for want of memory (OOM)")
            ),
            Phase.CRASHED: Lifecycle(
                Phase.CRASHED, "ended by signal 9 (SIGKILL)", last_line=p("loading: digits:3"),
                restarts=2,
                cause=DeckError(
                    p("the kernel ended the server for want of memory"),
                    why="oom_kill", fix="raise server.memory, or load fewer models",
                ),
            ),
        }.get(self.phase, Lifecycle(self.phase, "a real request was answered", answered=12.0))  # fmt: skip
        crashed = self.phase is Phase.CRASHED
        if self.phase is Phase.STARTING:
            view = replace(view, state=ServiceState.STARTING, uptime=12.0)
        if crashed:
            view = replace(view, state=ServiceState.FAILED, pid=None, uptime=None)
        starting = ServerHealth(False, False, (), problem="nothing answers yet")
        health = starting if self.phase is Phase.STARTING else self.health(view.endpoint)
        return ServerView(
            view,
            life,
            None if crashed else health,
            self._versions(),
            self._container() if self.contained else None,
            "" if crashed else "ssh -N -L 8000:127.0.0.1:8000 operator@gpu-07",
            not crashed,
        )

    def _container(self) -> ContainerView:
        return ContainerView(
            "docker",
            self._p("tritondeck-digits-triton-4f1c2a"),
            self._p("nvcr.io/nvidia/tritonserver:26.07-py3"),
            "9f1e",
        )

    def _versions(self) -> VersionsView:
        live = 2 if "rollback digits" in self.calls else 3
        known = tuple(
            VersionView(n, ("digits",), f"run-{n}", NOW - 1000 * (4 - n), n == live)
            for n in (1, 2, 3)
        )
        return VersionsView("digits", live, 5 - live, known, "svc-1")

    def _lab(self) -> ServerView:
        p = self._p
        where = Endpoint(
            "http://10.0.0.7:8000", metrics_url="http://10.0.0.7:8002", manage=self.control
        )
        nowhere = Path("/nowhere")
        view = ServiceView(
            "attached:lab", "lab", "attached", ServiceState.RUNNING, nowhere, nowhere / "server.log",
            where, nowhere, ("ranker",),
        )  # fmt: skip
        model = ModelState("ranker", "4", "READY", "", True)
        health = ServerHealth(True, True, (model,), p("2.71.0"))
        life = Lifecycle(Phase.MODEL_READY, "loaded; no request has been answered yet")
        return ServerView(view, life, health, control=self.control, watched=True)

    def attached(self) -> tuple[AttachedServer, ...]:
        return (AttachedServer(url="http://10.0.0.7:8000", name="lab", control=self.control),)

    def rollback(
        self, name: str, version: int = 0, progress: Progress | None = None
    ) -> VersionsView:
        self.calls.append(f"rollback {name}")
        return replace(self._versions(), answer=self._p("seven three one"))

    def remove(self, name: str, progress: Progress | None = None) -> tuple[str, ...]:
        self.calls.append(f"remove {name}")
        if self.needed:
            raise Refused(
                f"{name} cannot be removed: another model needs it",
                why="punctuation of the deployment meetings calls digits",
                fix="tritondeck remove meetings first",
            )
        return ("digits",)

    def shell(self, name: str, environment: str = "", argv: tuple[str, ...] = ()) -> Launch:
        self.calls.append(f"shell {name} {environment}".rstrip())
        entered = self.log.with_name("entered")
        return Launch(("/usr/bin/touch", str(entered)), {}, Path("/"))

    def stop(self, name_or_id: str, progress: Progress | None = None) -> ServiceView:
        self.calls.append(f"stop {name_or_id}")
        return self.service(name_or_id)

    def load_model(self, endpoint: Endpoint, model: str) -> None:
        self.calls.append(f"load {model}")

    def unload_model(self, endpoint: Endpoint, model: str) -> None:
        self.calls.append(f"unload {model}")


class DeskDouble(ServingDouble):
    """Answers with fixed values, from choosing a checkpoint to asking the model."""

    def monitor(self, *ignored: object) -> Any:
        from tests.screens.monitor_double import MonitorDouble

        return MonitorDouble(8, poison=self.poison)

    def glance(self) -> tuple[DeploymentView, ...]:
        return tuple(
            replace(view, run=None, service=None, problem="", seen=False) for view in self._saved()
        )

    def deployments(self) -> tuple[DeploymentView, ...]:
        return self._saved()

    def _saved(self) -> tuple[DeploymentView, ...]:
        p = self._p
        failed = replace(
            self._run(RunState.FAILED),
            deployment="neva",
            error=p("/dev/shm is 64 MiB; the model needs 4 GiB"),
            fix=p("start the container with --shm-size=4g"),
        )
        done = replace(
            self._run(RunState.SUCCEEDED), deployment="digits", answer=p("seven three one")
        )

        def saved(name: str, checkpoint: str, backend: str, run: RunView | None) -> DeploymentView:
            where = p(f"/opt/checkpoints/{checkpoint}")
            return DeploymentView(name, Path(f"/d/{name}.toml"), where, backend, run, None)

        building = replace(self._run(RunState.RUNNING), started=NOW - 660)
        digits = saved("digits", "spoken_digits.nemo", "onnx", done)
        broken = saved("broken", "", "", None)
        return (
            replace(digits, service=self.service("digits")),
            saved("llama31-8b", "hf_llama31_8B_nemo2", "nemo-tensorrt-llm", building),
            saved("neva", "nemo_neva.nemo", "nemo-multimodal", failed),
            saved("facts", "facts_llama", "vllm", replace(done, started=NOW - 90000)),
            saved("hindi", "indicconformer_hi.nemo", "onnx", None),
            replace(broken, checkpoint="", problem=p("line 7, server.http_port: not a port")),
        )

    # -- query

    def metadata(self, endpoint: Endpoint, model: str) -> ModelMetadata:
        p = self._p
        return ModelMetadata(
            "digits",
            ("1",),
            "python",
            (
                TensorSpec(p("WAV"), "BYTES", (-1, 1), True),
                TensorSpec(p("SAMPLES"), "FP32", (-1, -1), True),
                TensorSpec(p("RATE"), "INT32", (-1, 1), True),
            ),
            (TensorSpec(p("TRANSCRIPT"), "BYTES", (-1, 1)),),
            8,
        )

    def adapter(self, endpoint: Endpoint, metadata: ModelMetadata) -> Any:
        return Prompt(self.poison)

    def words(self, form: Prompt, answer: InferenceAnswer) -> str:
        return form.answer(answer)

    def infer(
        self, endpoint: Endpoint, request: InferenceRequest, *listening: object
    ) -> InferenceAnswer:
        self.calls.append(f"infer {request.model}")
        return InferenceAnswer(
            "digits",
            "1",
            (TensorAnswer("TRANSCRIPT", "BYTES", (1, 1), (self._p("seven three one"),)),),
            0.038,
        )

    def as_curl(self, endpoint: Endpoint, request: InferenceRequest) -> str:
        return self._p(
            "curl -sS http://127.0.0.1:8000/v2/models/digits/infer \\\n"
            "  -H 'Content-Type: application/json' -d @request.json"
        )

    def as_python(self, endpoint: Endpoint, request: InferenceRequest) -> str:
        return self._p(
            "import tritonclient.http as triton\n\nclient = triton.InferenceServerClient('127.0.0.1:8000')\n"
        )


_SCRIPT = """#!/usr/bin/env bash
# Deployment digits: spoken_digits.nemo through onnx. Works without tritondeck.
set -euo pipefail

WORK=${WORK:-$PWD/digits}
HTTP_PORT=${HTTP_PORT:-8000}

# ── 1 environment-nemo ─────────────────────────────
# NeMo in an environment of its own.
python3 -m venv "${WORK}/env-nemo"
"${WORK}/env-nemo/bin/pip" install torch==2.13.0
"${WORK}/env-nemo/bin/pip" install -r "${WORK}/nemo.lock"

# ── 2 export ───────────────────────────────────────
# NeMo writes the encoder and decoder as one ONNX graph.
"${WORK}/env-nemo/bin/python" "${WORK}/workers/export_nemo.py" \\
  --checkpoint /opt/checkpoints/spoken_digits.nemo \\
  --output "${WORK}/model.onnx" --opset 17 --max-batch-size 8 \\
  --tolerance 0.001
"""
_LOG = "".join(
    f"[NeMo I 2026-09-21 14:0{n // 60}:{n % 60:02d} export:{n}] tracing layer {n}\n"
    + (
        "[NeMo W 2026-09-21 14:00:11 patch_utils:109] torch.stft() signature has been updated\n"
        if n == 5
        else ""
    )
    for n in range(40)
)
