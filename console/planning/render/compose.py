"""A deployment as a Compose file (Compose 2.23.1 and later: a config with its content)."""

from __future__ import annotations

from typing import Any

import yaml

from console.planning.render.serving import PORTS, Serving

TOKEN_FILE = "token"


def render(serving: Serving) -> str:
    """The Compose file; the token comes from a file beside it and stands nowhere in it."""
    body = {
        "name": serving.name,
        "services": {"triton": _service(serving)},
        "configs": {"triton-server": {"content": _escaped(serving.worker)}},
        "secrets": {"triton-token": {"file": f"./{TOKEN_FILE}"}},
    }
    head = serving.head(
        f"(umask 077; openssl rand -hex 24 > {TOKEN_FILE}); docker compose up --detach",
        *serving.derived(),
    )
    return head + yaml.safe_dump(body, sort_keys=False, width=100, allow_unicode=True)


def _escaped(text: str) -> str:
    """Compose fills in every ``$``; two of them are one."""
    return text.replace("$", "$$")


def _service(serving: Serving) -> dict[str, Any]:
    box, ports = serving.container, serving.port
    command = serving.command
    made: dict[str, Any] = {
        "image": serving.image.tag,
        "command": [_escaped(word) for word in serving.words],
        "user": box.user or f"{serving.ids[0]}:{serving.ids[1]}",
        "init": box.init,
        "restart": "unless-stopped",
        "stop_grace_period": f"{round(serving.service.stop_timeout)}s",
        "read_only": box.read_only,
        "tmpfs": list(box.tmpfs),
        "cap_drop": ["ALL"] if box.drop_capabilities else [],
        "security_opt": ["no-new-privileges:true"] if box.no_new_privileges else [],
        "pids_limit": box.pids,
        "shm_size": box.shm_size,
        "ports": [
            f"{_address(port.address)}:{ports[name]}:{port.container}"
            for name, port in zip(PORTS, box.ports, strict=True)
        ],
        "volumes": [
            {
                "type": "bind",
                "source": _escaped(serving.values["repository"]),
                "target": box.mounts[0].target,
                "read_only": True,
                "bind": {"create_host_path": False},
            },
            *(
                {
                    "type": "bind",
                    "source": _escaped(source),
                    "target": _escaped(target),
                    "read_only": True,
                    "bind": {"create_host_path": False},
                }
                for source, target in serving.data
            ),
        ],
        "configs": [{"source": "triton-server", "target": box.mounts[1].target}],
        "secrets": [{"source": "triton-token", "target": box.mounts[2].target}],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _health(box.ports[0].container)],
            "interval": "10s",
            "timeout": "5s",
            "start_period": f"{serving.start_limit}s",
        },
    }
    if box.ulimits:
        limits = (limit.partition("=") for limit in box.ulimits)
        made["ulimits"] = {name: int(value) for name, _, value in limits}
    if box.memory:
        made |= {"mem_limit": box.memory, "memswap_limit": box.memory}
    if command.env:
        made["environment"] = {k: _escaped(serving.filled(v)) for k, v in command.env.items()}
    if serving.gpus:
        made["deploy"] = {"resources": {"reservations": {"devices": [_devices(serving)]}}}
    return {key: value for key, value in made.items() if value not in ([], "")}


def _address(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _health(port: int) -> str:
    """The image need not have curl; it has Python."""
    return (
        "import urllib.request as r; "
        f"r.urlopen('http://127.0.0.1:{port}/v2/health/ready', timeout=4)"
    )


def _devices(serving: Serving) -> dict[str, Any]:
    which: dict[str, Any] = (
        {"count": "all"} if serving.gpus < 0 else {"device_ids": serving.container.gpus.split(",")}
    )
    return {"driver": "nvidia", **which, "capabilities": ["gpu"]}
