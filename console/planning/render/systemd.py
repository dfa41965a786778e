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
        f"ExecStartPre=/bin/sh -c {_command(_TOKEN.format(unit=unit))}",
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
    writable = f"ReadWritePaths={_setting(serving.values['work'])}\n"
    local = serving.service.http_url.startswith(("http://127.", "http://localhost", "http://[::1]"))
    # What the addresses of the command line say, the kernel enforces as well.
    only = "IPAddressAllow=localhost\nIPAddressDeny=any\n" if local else ""
    places = (serving.values["work"], serving.values.get("env_embedded", ""))
    hidden = any(place.startswith(("/tmp/", "/var/tmp/")) for place in places)
    return _SYSTEM + ("" if hidden else "PrivateTmp=yes\n") + writable + only


def _process(serving: Serving, unit: str) -> list[str]:
    """The server as a process of this host, in its managed environment."""
    environment = serving.values.get("env_embedded", "")
    path = f"{environment}/bin:/usr/local/bin:/usr/bin:/bin"
    values = _values(serving, unit)
    # systemd refuses some characters in the program's path, and none in its arguments.
    argv = ("/usr/bin/env", *(_command(expand(word, values)) for word in serving.argv))
    return [
        f"WorkingDirectory={_percent(serving.values['work'])}",
        f"Environment={_setting(f'PATH={path}')}",
        f"ExecStart={' '.join(argv)}",
        "KillMode=mixed",
    ]


def _values(serving: Serving, unit: str) -> dict[str, str]:
    """The plan's values as a command line takes them, with the token of this start."""
    fixed = {name: _percent(value) for name, value in serving.values.items()}
    return {**fixed, "token_file": f"%t/{unit}/token"}


def _container(serving: Serving, unit: str) -> list[str]:
    """The server in a container that ends with the unit."""
    engine: containers.EngineName = "podman" if serving.plan.engine == "podman" else "docker"
    values = _values(serving, unit)
    command = serving.command.model_copy(update={"argv": serving.argv})
    caller = ["--user", f"{serving.ids[0]}:{serving.ids[1]}"]
    words = containers.filled(containers.run_words(command), engine, values, caller, "")
    stop = round(serving.service.stop_timeout)
    run = ["run", "--rm", "--name", unit, "--stop-timeout", str(stop), *words]
    return [
        f"ExecStart=/usr/bin/env {engine} {' '.join(_command(word) for word in run)}",
        f"ExecStop=/usr/bin/env {engine} stop --time {stop} {unit}",
    ]


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _plain(text: str) -> str:
    return _percent(" ".join(text.split()))


def _command(text: str) -> str:
    """One word of a command line, where systemd fills in ``$`` and ``%``. Of the latter, ``%t`` is
    meant; the caller has doubled the others."""
    return _quoted(text.replace("$", "$$"))


def _setting(text: str) -> str:
    """One word of another setting: a ``$`` means itself there."""
    return _quoted(_percent(text))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
