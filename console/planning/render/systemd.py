"""A deployment as a systemd unit: it survives a reboot, for the system or for one user.

Options of sandboxing that need privileges stand only in the system's unit; those that stop what a
model may do (write to memory that it runs, see the GPU's devices) stand in none.
"""

from __future__ import annotations

from console.planning import containers
from console.planning.render.serving import Serving
from console.planning.variables import expand

_RESTART = 10

_EVERYWHERE = """\
UMask=0077
LimitCORE=0
LimitMEMLOCK=infinity
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
"""

_SYSTEM = """\
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
CapabilityBoundingSet=
"""


def system(serving: Serving) -> str:
    """The unit for ``/etc/systemd/system``; it runs as the operator, not as root."""
    return _render(serving, for_user=False)


def user(serving: Serving) -> str:
    """The unit for ``~/.config/systemd/user``; lingering keeps it without a login."""
    return _render(serving, for_user=True)


def _render(serving: Serving, *, for_user: bool) -> str:
    unit = f"tritondeck-{serving.name}"
    boxed = bool(serving.command.image)
    head = serving.head(*_how(unit, for_user=for_user), *(serving.derived() if boxed else ()))
    lines = [
        "[Unit]",
        f"Description=Triton: {_plain(serving.deployment)} ({_plain(', '.join(serving.models))})",
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=3600",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "Type=exec",
        *([] if for_user else [f"User={serving.user}"]),
        f"RuntimeDirectory={unit}",
        "RuntimeDirectoryMode=0700",
        # A fresh token for each start, as a console would make it.
        f"ExecStartPre=/bin/sh -c {_word(_TOKEN.format(unit=unit), runtime=True)}",
        *(_container(serving, unit) if boxed else _process(serving, unit)),
        "Restart=on-failure",
        f"RestartSec={_RESTART}",
        f"TimeoutStopSec={round(serving.service.stop_timeout) + 4}",
    ]
    hardening = "" if boxed else _EVERYWHERE + ("" if for_user else _sandbox(serving))
    wanted = "default.target" if for_user else "multi-user.target"
    return head + "\n".join(lines) + f"\n{hardening}\n[Install]\nWantedBy={wanted}\n"


_TOKEN = "umask 077; od -An -tx1 -N24 /dev/urandom | tr -d ' \\n' > %t/{unit}/token"


def _how(unit: str, *, for_user: bool) -> tuple[str, ...]:
    if for_user:
        return (
            f"Save as ~/.config/systemd/user/{unit}.service, then:",
            f"systemctl --user daemon-reload; systemctl --user enable --now {unit}",
            "loginctl enable-linger  (so that it starts at boot, before anybody logs in)",
        )
    return (
        f"Save as /etc/systemd/system/{unit}.service, then:",
        f"systemctl daemon-reload; systemctl enable --now {unit}",
    )


def _sandbox(serving: Serving) -> str:
    writable = f"ReadWritePaths={_word(serving.values['work'])}\n"
    local = serving.service.http_url.startswith(("http://127.", "http://localhost", "http://[::1]"))
    # What the addresses of the command line say, the kernel enforces as well.
    only = "IPAddressAllow=localhost\nIPAddressDeny=any\n" if local else ""
    places = (serving.values["work"], serving.values.get("env_embedded", ""))
    hidden = any(place.startswith(("/tmp/", "/var/tmp/")) for place in places)
    return _SYSTEM + ("" if hidden else "PrivateTmp=yes\n") + writable + only


def _process(serving: Serving, unit: str) -> list[str]:
    """The server as a process of this host, in its managed environment."""
    values = {**serving.values, "token_file": f"%t/{unit}/token"}
    argv = [
        expand(
            word,
            {k: _percent(v) for k, v in values.items() if k != "token_file"}
            | {"token_file": values["token_file"]},
        )
        for word in serving.argv
    ]
    environment = serving.values.get("env_embedded", "")
    path = f"{environment}/bin:/usr/local/bin:/usr/bin:/bin"
    return [
        f"WorkingDirectory={_percent(serving.values['work'])}",
        f"Environment={_word(f'PATH={path}')}",
        f"ExecStart={' '.join(_word(word, runtime=True) for word in argv)}",
        "KillMode=mixed",
    ]


def _container(serving: Serving, unit: str) -> list[str]:
    """The server in a container that ends with the unit."""
    engine: containers.EngineName = "podman" if serving.plan.engine == "podman" else "docker"
    values = {**serving.values, "token_file": f"%t/{unit}/token"}
    command = serving.command.model_copy(update={"argv": serving.argv})
    caller = ["--user", f"{serving.ids[0]}:{serving.ids[1]}"]
    words = containers.filled(containers.run_words(command), engine, values, caller, "")
    stop = round(serving.service.stop_timeout)
    run = ["run", "--rm", "--name", unit, "--stop-timeout", str(stop), *words]
    return [
        f"ExecStart=/usr/bin/env {engine} {' '.join(_word(word, runtime=True) for word in run)}",
        f"ExecStop=/usr/bin/env {engine} stop --time {stop} {unit}",
    ]


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _plain(text: str) -> str:
    return _percent(" ".join(text.split()))


def _word(text: str, *, runtime: bool = False) -> str:
    """One word of a unit file. `runtime`: it may hold ``%t``, which systemd fills in."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    if not runtime:
        quoted = _percent(quoted)
    return f'"{quoted}"'
