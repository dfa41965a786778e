"""vLLM's own server behind Triton: two servers of one deployment.

vLLM and Triton's embedded server cannot share an environment (NumPy 2 and NumPy 1), so a python model
of ours passes requests on over loopback. It has the tensors of Triton's vLLM backend, so clients and
the prompt form are the same for both.
"""

from __future__ import annotations

from backends.environments import environment
from backends.language import vllm_plan, vllm_triton
from backends.language.common import style_of
from backends.language.vllm_options import VllmOptions
from backends.sources import model_files
from backends.steps import environment_step, triton, triton_steps, write_step
from console.checkpoints.model import Checkpoint
from console.facts import TensorSpec
from console.planning.deployment import Deployment
from console.planning.plan import (
    EnvironmentSpec,
    FileSpec,
    Plan,
    ServiceSpec,
    Step,
    join,
)
from console.planning.variables import Variable, literal
from console.prompts import Style
from console.triton.launchers import launcher
from console.triton.repository import Instances, model_config, to_text

REPOSITORY = "${repository}"
SERVER_FILE = "${work}/vllm-server"
REQUESTS_AT_ONCE = 64
"""Threads that wait for answers; vLLM puts requests together by itself."""
APART = "Triton's server, apart from vLLM: one needs NumPy 1, the other NumPy 2"
PATIENCE = 600.0
"""Seconds without a word from vLLM until a request is given up."""


def environments(deployment: Deployment, options: VllmOptions) -> tuple[EnvironmentSpec, ...]:
    """vLLM's, and those of Triton's launcher."""
    server = launcher(deployment).environments
    return (
        *vllm_plan.environments(deployment, options),
        *(environment(name, deployment) for name in server),
    )


def repository(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint
) -> tuple[FileSpec, ...]:
    """The proxy model. A conversation is asked for where the tokenizer has a template for it."""
    name = deployment.served_name
    chat = style_of(checkpoint) is Style.CHAT
    one = (1,)
    config = model_config(
        name,
        (
            TensorSpec("text_input", "BYTES", one),
            TensorSpec("stream", "BOOL", one, optional=True),
            TensorSpec("sampling_parameters", "BYTES", one, optional=True),
            TensorSpec("exclude_input_in_output", "BOOL", one, optional=True),
        ),
        (
            TensorSpec("text_output", "BYTES", one),
            TensorSpec("finish_reason", "BYTES", one),
            TensorSpec("num_input_tokens", "UINT32", one),
            TensorSpec("num_output_tokens", "UINT32", one),
        ),
        instances=Instances(1, "cpu"),
        decoupled=True,
        parameters={
            "server_file": SERVER_FILE,
            "model": literal(name),
            "endpoint": "chat" if chat else "completions",
            "workers": str(REQUESTS_AT_ONCE),
            "timeout": f"{PATIENCE:g}",
        },
    )
    return (
        FileSpec(path=join(REPOSITORY, name, "config.pbtxt"), text=to_text(config), template=True),
        *model_files("vllm_proxy", ("model",), join(REPOSITORY, name, "1")),
    )


def service(deployment: Deployment, options: VllmOptions) -> ServiceSpec:
    """The launcher's server; vLLM's key goes to its models by a variable's name."""
    spec = triton(deployment, (deployment.served_name,))
    secrets = (options.api_key_env,) if options.api_key_env else ()
    given = spec.process
    command = given.model_copy(update={"secrets": (*given.secrets, *secrets)})
    return spec.model_copy(update={"command": command})


def plan(deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint) -> Plan:
    """vLLM's server first, then Triton with the model that asks it."""
    start = launcher(deployment)
    own = vllm_plan.service(deployment, options, checkpoint, port="vllm_port")
    address = FileSpec(path=SERVER_FILE, text=f"{own.http_url}\n", template=True)
    steps: list[Step] = [
        *vllm_plan.ready_steps(deployment, options),
        *(environment_step(environment(name, deployment), APART) for name in start.environments),
        vllm_plan.workers("check_vllm", start.worker),
        vllm_plan.compare_step(deployment, options, checkpoint),
        vllm_plan.start_step(deployment, own, "vllm"),
        write_step(
            "address",
            "vLLM's address",
            "the model in Triton reads at each request where vLLM's server is",
            (address,),
            always=True,  # another port is no change that would be seen
        ),
        write_step(
            "repository",
            "model repository",
            "a python model that passes requests on, with the tensors of Triton's vLLM backend",
            repository(deployment, options, checkpoint),
        ),
        *_serving(deployment, options),
    ]
    port = Variable(
        name="vllm_port",
        kind="port",
        default=str(options.vllm_port),
        help="port of vLLM's own server, on loopback",
    )
    return Plan(
        deployment=deployment.name,
        backend="vllm",
        variables=(*start.variables(deployment), port),
        environments=environments(deployment, options),
        images=vllm_plan.images(options),
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=(
            "two servers: vLLM's own on loopback, and Triton with a model that asks it",
            *vllm_plan.notes(options, checkpoint),
        ),
    )


def _serving(deployment: Deployment, options: VllmOptions) -> tuple[Step, ...]:
    spec = service(deployment, options)
    load = ("load the model", "the python model holds no weights: this takes a moment")
    return (*triton_steps(deployment, spec, load), vllm_triton.asked(deployment, spec))
