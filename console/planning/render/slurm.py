"""A deployment as a Slurm batch script: the server lives as long as the job.

Ports are found on the node that the job gets. The server listens on that node's loopback; the job's
output says how to reach it through the login node. A server of several nodes is started on each of
them by ``srun``, once: its ``torchrun`` makes one process a GPU, and they meet at the first node.
"""

from __future__ import annotations

import shlex
from urllib.parse import quote

from console.planning.plan import ServiceStep, UrlReady
from console.planning.render.serving import Serving
from console.planning.variables import literal, shell_word

_HOURS = 8


def render(serving: Serving) -> str:
    """The script for ``sbatch``; a container runs through ``srun --container-image`` (pyxis)."""
    boxed, nodes = bool(serving.command.image), serving.command.nodes
    name = f"tritondeck-{serving.name}"
    resources = [
        f"#SBATCH --job-name={name}",
        f"#SBATCH --output={name}-%j.log",
        f"#SBATCH --nodes={nodes}",
        "#SBATCH --ntasks-per-node=1" if nodes > 1 else "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=4",
        f"#SBATCH --time={_HOURS:02d}:00:00",
        "#SBATCH --signal=B:TERM@60",
    ]
    if nodes > 1:
        resources.append(f"#SBATCH --gpus-per-node={_gpus_a_node(serving)}")
    elif serving.gpus:
        resources.append(f"#SBATCH --gpus={max(1, serving.gpus)}")
    head = serving.head(
        f"sbatch {name}.sbatch, then read {name}-JOBID.log",
        *(serving.derived() if boxed else ()),
    )
    one = _container if boxed else _process
    start = _several(serving) if nodes > 1 else one(serving)
    ready = _ready_path(serving)
    return "\n".join(
        (
            "#!/usr/bin/env bash",
            *resources,
            "# shellcheck disable=SC2016,SC2026",
            head.rstrip("\n"),
            _BODY.replace("@START@", start)
            .replace("@READY@", ready)
            .replace("@LIMIT@", str(serving.start_limit)),
        )
    )


_BODY = """\
set -euo pipefail
umask 077

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

FOLDER="$(mktemp -d)"
SERVER=
finish() {
  if [ -n "$SERVER" ]; then
    kill "$SERVER" 2>/dev/null || true
    wait "$SERVER" 2>/dev/null || true
  fi
  rm -rf -- "$FOLDER"
}
trap finish EXIT
trap 'exit 143' TERM INT

TOKEN_FILE="$FOLDER/token"
od -An -tx1 -N24 /dev/urandom | tr -d ' \\n' > "$TOKEN_FILE"
HTTP_PORT="${HTTP_PORT:-$(free_port)}"
GRPC_PORT="${GRPC_PORT:-$(free_port)}"
METRICS_PORT="${METRICS_PORT:-$(free_port)}"

@START@
SERVER=$!

for _ in $(seq @LIMIT@); do
  kill -0 "$SERVER" 2>/dev/null || { echo "the server ended"; exit 1; }
  if curl --silent --fail --noproxy '*' --max-time 5 "http://127.0.0.1:$HTTP_PORT@READY@"; then
    echo "ready: http://127.0.0.1:$HTTP_PORT on $(hostname)"
    echo "from your own machine: ssh -N -J $(id -un)@${SLURM_SUBMIT_HOST:-LOGIN_NODE} \\
-L $HTTP_PORT:127.0.0.1:$HTTP_PORT -L $GRPC_PORT:127.0.0.1:$GRPC_PORT $(id -un)@$(hostname)"
    break
  fi
  sleep 1
done
wait "$SERVER"
"""


def _process(serving: Serving) -> str:
    """In its managed environment, which a shared file system must show to the node."""
    kept = ("http_port", "grpc_port", "metrics_port", "token_file")
    lines = [
        f"{name.upper()}={shell_word(literal(value))}"
        for name, value in serving.values.items()
        if name not in kept and any(f"${{{name}}}" in word for word in serving.argv)
    ]
    path = shell_word(literal(serving.values.get("env_embedded", "")))
    words = " ".join(shell_word(word) for word in serving.argv)
    step = "srun --ntasks=1"
    return "\n".join((*lines, f'PATH={path}/bin:"$PATH" {step} {words} &'))


def _container(serving: Serving) -> str:
    """Through pyxis. The container shares the node's network, so Triton is told its own ports."""
    box = serving.container
    models, worker, token = (mount.target for mount in box.mounts[:3])
    further = "".join(f",{source}:{target}:ro" for source, target in serving.data)
    inside = dict(zip(("http", "grpc", "metrics"), box.ports, strict=True))
    words: list[str] = []
    for word in serving.argv:
        for name, port in inside.items():
            if word == f"--{name}-port={port.container}":
                word = f"--{name}-port=${{{name}_port}}"
            elif word == f"--{name}-address=0.0.0.0":
                word = f"--{name}-address=127.0.0.1"
        words.append(shell_word(word))
    repository = shell_word(literal(serving.values["repository"]))
    image = shell_word(literal(_enroot(serving.image.tag)))
    body = serving.worker if serving.worker.endswith("\n") else serving.worker + "\n"
    return (
        f"cat > \"$FOLDER/triton_server.py\" <<'END_OF_WORKER'\n{body}END_OF_WORKER\n"
        f"REPOSITORY={repository}\n"
        f"srun --ntasks=1 --container-image={image} --no-container-mount-home \\\n"
        f'  --container-mounts="$REPOSITORY:{models}:ro,$FOLDER/triton_server.py:{worker}:ro,'
        f'$TOKEN_FILE:{token}:ro"{shell_word(literal(further)) if further else ""} \\\n'
        f"  {' '.join(words)} &"
    )


def _gpus_a_node(serving: Serving) -> int:
    """As many as processes are started there."""
    flag = "--nproc-per-node="
    found = (word.removeprefix(flag) for word in serving.argv if word.startswith(flag))
    return int(next(found, "1"))


def _ready_path(serving: Serving) -> str:
    """Where the server says that it is ready: what the plan waits for first."""
    for step in serving.plan.steps:
        for probe in step.success if isinstance(step, ServiceStep) else ():
            if isinstance(probe, UrlReady) and probe.url.startswith(serving.service.http_url):
                return quote(serving.filled(probe.url.removeprefix(serving.service.http_url)))
    return "/v2/health/ready"


def _several(serving: Serving) -> str:
    """Once on each node, which reads its number from Slurm; all meet at the first node."""
    words = " ".join(shell_word(word) for word in serving.argv)
    inner = f'NODE_RANK="$SLURM_NODEID"; export NODE_RANK; exec {words}'
    mounts = serving.container.mounts
    paths = ",".join(
        f"{serving.filled(mount.source)}:{serving.filled(mount.target)}"
        + (":ro" if mount.read_only else "")
        for mount in mounts
    )
    made = [shell_word(literal(serving.filled(mount.source))) for mount in mounts if mount.create]
    box = ""
    if serving.command.image:
        image = shell_word(literal(_enroot(serving.image.tag)))
        box = f" --container-image={image} --no-container-mount-home"
        box += f" --container-mounts={shell_word(literal(paths))}" if paths else ""
    lines = [
        *(f"mkdir -p {folder}" for folder in made),
        'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
        'TRITON_PORT="${TRITON_PORT:-$(free_port)}"',
        "export MASTER_ADDR HTTP_PORT TRITON_PORT",
        *(
            f"export {name}={shell_word(literal(serving.filled(value)))}"
            for name, value in serving.command.env.items()
        ),
        f"srun --ntasks-per-node=1 --kill-on-bad-exit=1{box} \\",
        f"  bash -c {shlex.quote(inner)} &",
    ]
    return "\n".join(lines)


def _enroot(reference: str) -> str:
    """``nvcr.io/nvidia/x:tag`` as enroot writes it: ``nvcr.io#nvidia/x:tag``."""
    first, slash, rest = reference.partition("/")
    return f"{first}#{rest}" if slash and ("." in first or ":" in first) else reference
