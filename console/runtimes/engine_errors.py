"""What docker and podman say when they refuse, as sentences with a cause and a fix.

Only substrings are matched: the tails of the messages differ between versions of the command line
(28 adds "Run 'docker run --help'…", 20.10 a full stop). The texts were seen with docker 20.10 and 28
and podman 4.3; those about GPUs and registries come from the same programs without either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from console.facts import DeckError
from console.text import clean, redact


@dataclass(frozen=True, slots=True)
class Known:
    """One refusal. `title`, `why` and `fix` may name groups of `pattern` in braces."""

    id: str
    pattern: re.Pattern[str]
    title: str
    why: str = ""
    fix: str = ""


def _known(id_: str, pattern: str, title: str, why: str = "", fix: str = "") -> Known:
    return Known(id_, re.compile(pattern, re.DOTALL), title, why, fix)


TOOLKIT = (
    "install the NVIDIA Container Toolkit (nvidia-ctk runtime configure, then restart docker), "
    "or choose no GPU"
)
CDI = "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, or choose no GPU"
GROUP = "sudo usermod -aG docker $USER and log in again (that group is as good as root), or podman"

KNOWN = (
    _known(
        "gpu-runtime", r'could not select device driver "(nvidia)?" with capabilities: \[\[.*gpu',
        "this docker cannot give a container any GPU",
        "it has no NVIDIA runtime", TOOLKIT,
    ),
    _known(
        "gpu-runtime", r"[Uu]nknown runtime specified (?P<name>\S+?)[.\s]",
        "this docker has no runtime {name}", "its configuration names none", TOOLKIT,
    ),
    _known(
        "gpu-cdi", r'select device driver "cdi"|unresolvable CDI devices (?P<name>\S+)',
        "the engine knows no such GPU",
        "GPUs are asked for by their CDI names, and no CDI description of this host has them", CDI,
    ),
    _known(
        "port-taken", r"(?:listen tcp[46]? )?(?P<place>[0-9.\[\]:a-f]+:\d+): bind: address already in use",
        "{place} is taken", "a process of this host listens there", "choose another port, or 0",
    ),
    _known(
        "port-taken", r"Bind for (?P<place>\S+) failed: port is already allocated",
        "{place} is taken", "another container publishes it", "stop that one, or choose another port",
    ),
    _known(
        "port-forbidden", r"(?P<place>[0-9.\[\]:a-f]+:\d+): bind: (?:permission denied|cannot assign)",
        "{place} cannot be published",
        "the address is not of this host, or the port is one of the first 1024",
        "choose 127.0.0.1 and a port above 1023",
    ),
    _known(
        "name-taken", r'(?:The container name|the container name) "/?(?P<name>[^"]+)" is already in use',
        "there is a container {name} already", "names are unique in an engine",
        "remove it, or retry: another name is made",
    ),
    _known(
        "name-invalid", r"Invalid container name \((?P<name>.*?)\)|names must match",
        "the engine takes no container of that name",
        "only letters, digits, '.', '_' and '-'", "rename the deployment",
    ),
    _known(
        "registry-unreachable",
        r"lookup (?P<host>\S+?)(?: on \S+)?: (?:no such host|server misbehaving|Temporary failure)"
        r"|dial tcp \S+: (?:connect: |i/o )(?P<how>connection refused|timeout|network is unreachable)",
        "the registry cannot be reached", "its name or address does not answer from here",
        "check network and proxy of the engine, or give the image as a tar file (server.image_tar)",
    ),
    _known(
        "registry-login",
        r"unauthorized|pull access denied|denied: requested access|authentication required|401 Unauth",
        "the registry does not give this image", "it asks for a login, or there is no such image",
        "docker login (for nvcr.io: user $oauthtoken, an NGC key), then retry",
    ),
    _known(
        "registry-no-tag", r"manifest(?: for \S+)? (?:not found|unknown)|manifest unknown",
        "the registry has no such image", "no image has that tag or digest",
        "check the tag: tritondeck lists the ones it knows under server.image",
    ),
    _known(
        "registry-limit", r"toomanyrequests|429 Too Many",
        "the registry gives no more images for now", "its rate limit is reached",
        "log in to it, or wait",
    ),
    _known(
        "image-absent",
        r"(?:No such image: |[Uu]nable to find image '|no such image: )(?P<image>[^\s']+)"
        r"|Error: (?P<image2>\S+): image not known",
        "the image {image} is not here", "commands never pull: the plan's image step does",
        "run the deployment again from its image step",
    ),
    _known(
        "image-name", r"invalid reference format|repository name must be lowercase",
        "that is no image name", "a reference reads registry/name:tag or registry/name@sha256:…",
        "correct server.image",
    ),
    _known(
        "image-tar",
        r"open (?P<file>/\S+): no such file or directory.*|payload does not match any of the supported"
        r"|invalid tar header|unexpected EOF$|archive/tar",
        "the image's archive cannot be read", "it is missing, cut short, or not one of docker save",
        "make it again: docker save -o image.tar REFERENCE",
    ),
    _known(
        "daemon-rights",
        r"permission denied while trying to connect|dial unix \S+: connect: permission denied",
        "this user may not use docker", "its socket belongs to root and the group docker", GROUP,
    ),
    _known(
        "daemon-down",
        r"Cannot connect to the Docker daemon|[Ii]s the docker daemon running|unable to connect to Podman"
        r"|error during connect",
        "docker does not answer", "its daemon is not running, or DOCKER_HOST names another place",
        "sudo systemctl start docker, or use podman",
    ),
    _known(
        "mount-missing",
        r"bind source path does not exist: (?P<path>[^\n]+?)(?:\.?\n|\.?$)|statfs (?P<path2>.+?): no such file",
        "{path} is not there", "it would be mounted into the container",
        "restore it, or correct the path",
    ),
    _known(
        "mount-words", r"invalid (?:field|argument) .*mount|invalid volume specification|incorrect mount format",
        "the engine does not take that path", "a character of it means something else there",
        "rename the folder: letters, digits, '.', '_', '-' and spaces work everywhere",
    ),
    _known(
        "program-missing",
        r'exec: \\?"(?P<name>[^"\\]+)\\?": (?:executable file not found|stat .*no such file)'
        r"|executable file [`']?(?P<name2>[^`'\s]+)[`']? not found",
        "the image has no program {name}", "it is the entry point, or the first word of the command",
        "choose an image that has it, or another entry point",
    ),
    _known(
        "program-forbidden", r"unable to start container process: exec: .*permission denied",
        "the image's program may not be executed", "the container's user has no right to it",
        "choose another user or image",
    ),
    _known(
        "environment-file", r"invalid env file|variable '.*' contains whitespaces",
        "the environment cannot be passed", "a variable's name has a blank in it",
        "rename that variable",
    ),
    _known(
        "memory-low", r"Minimum memory limit (?:allowed|can be set) is (?P<least>\S+)",
        "the memory limit is too small", "the engine takes nothing below {least}",
        "raise the memory limit, or leave it empty",
    ),
    _known(
        "cpus", r"Range of CPUs is from .*there are only (?P<count>\d+) CPUs",
        "there are not so many CPUs", "this host has {count}", "lower the number of CPUs",
    ),
    _known(
        "shm", r"invalid argument .* for \"?--shm-size|error creating shm|shm size",
        "the shared memory cannot be set up", "its size is wrong, or larger than what is free",
        "correct the size (1g, 4g)",
    ),
    _known(
        "option", r"unknown (?:shorthand )?flag: '?(?P<name>[^\s']+)",
        "this engine knows no option {name}", "it is older than the option",
        "update docker or podman",
    ),
    _known(
        "value", r'invalid argument "(?P<value>[^"]*)" for "(?P<name>[^"]+)" flag',
        "{name} does not take {value}", "the engine refuses the value", "correct it",
    ),
    _known(
        "disk-full", r"no space left on device|disk quota exceeded",
        "the engine's disk is full", "images and containers lie under its data folder",
        "docker system df shows what takes the room; docker image prune frees some",
    ),
    _known(
        "init-missing", r"container-init binary not found|docker-init.*executable file not found",
        "the engine lacks the small init that containers run under",
        "process 1 of a container passes signals on and collects what models leave",
        "install it: catatonit for podman, tini for docker (packages of those names)",
    ),
    _known(
        "limits", r"setrlimit|setting rlimits?",
        "the engine may not set its limits", "it asks for more open files or tasks than this user may",
        "raise the user's limits, or set default_ulimits in containers.conf",
    ),
    _known(
        "rootless", r"insufficient UIDs or GIDs|newuidmap|no subuid ranges",
        "podman cannot map user ids here", "this user has no range in /etc/subuid and /etc/subgid",
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
    ),
    _known(
        "certificate", r"x509: |certificate signed by unknown",
        "the registry's certificate is not trusted", "a proxy with a certificate of its own?",
        "add its certificate to the engine (/etc/docker/certs.d), or load the image from a tar file",
    ),
    _known(
        "buildkit", r"BuildKit is enabled but the buildx component is missing",
        "docker cannot build", "it wants the buildx plugin, which is not installed",
        "install docker-buildx-plugin, or set DOCKER_BUILDKIT=0",
    ),
    _known(
        "container-gone", r"[Nn]o such container|no container with name or ID|No such object",
        "the container is gone", "somebody has removed it", "retry: another one is made",
    ),
)  # fmt: skip

INSIDE = (
    _known(
        "program-missing",
        r"tini \(\d+\)\] exec (?P<name>\S+) failed: No such file"
        r"|catatonit:\d+\): failed to exec pid1: No such file",
        "the image has no program {name}", "it is the entry point, or the first word of the command",
        "choose an image that has it, or another entry point",
    ),
    _known(
        "program-forbidden",
        r"tini \(\d+\)\] exec (?P<name>\S+) failed: Permission|failed to exec pid1: Permission",
        "the image's program may not be executed", "the container's user has no right to it",
        "choose another user or image",
    ),
    _known(
        "tmpfs-missing", r"Failed to create temporary directory for Python environments",
        "the server cannot write its temporary files", "the container is read-only without a /tmp",
        "give it a tmpfs at /tmp",
    ),
    _known(
        "shm-small",
        r"Unable to initialize shared memory key '[^']*' to requested size \((?P<size>\d+) bytes\)",
        "the container has too little shared memory",
        "each instance of a python model takes {size} bytes or more of /dev/shm",
        "raise the shared memory (server.shm_size)",
    ),
    _known(
        "pids-few", r"pthread_create failed|Resource temporarily unavailable",
        "the container may not have so many tasks",
        "a server starts dozens of threads, more with each model and processor",
        "raise the limit of tasks to 4096",
    ),
    _known(
        "folder-forbidden",
        r"failed to open directory (?P<path>[^\s\"']+)|Permission denied: '(?P<path2>[^']+)'",
        "the container's user may not read {path}",
        "files of the host keep their owner and mode inside",
        "run it as the owner of the files, or give others the right (chmod o+rX)",
    ),
    _known(
        "stub-shell-missing", r"Failed to run python backend stub. Errno = 2",
        "the image has no bash", "Triton's python backend starts its models through it",
        "choose an image that has bash",
    ),
)  # fmt: skip
"""What a program says in its container about the container; only its last lines are looked at."""

_PREFIX = re.compile(r"^(?:docker: |podman: )?(?:Error response from daemon: |Error: )?")
_TAIL = re.compile(r"\s*(?:See '\w+ \w+ --help'\.?|Run '\w+ \w+ --help'.*)\s*$", re.DOTALL)


def find(said: str) -> Known | None:
    """The first refusal that `said` holds."""
    return next((known for known in KNOWN if known.pattern.search(said)), None)


def explain(said: str, doing: str) -> DeckError:
    """What an engine said on standard error, in our words; `doing`: ``start the container``."""
    said = redact(clean(said.strip(), multiline=True))
    known = find(said)
    if known is None:
        text = _TAIL.sub("", said)
        lines = [line for line in text.split("\n") if line.strip() and "WARNING" not in line]
        last = _PREFIX.sub("", lines[-1] if lines else "").strip()
        return DeckError(f"cannot {doing}", why=last[:400], raw=said)
    return _told(known, said)


def explain_end(lines: str) -> DeckError | None:
    """Why a container ended, if its last lines name something about the container itself."""
    said = redact(clean(lines, multiline=True))
    known = next((known for known in INSIDE if known.pattern.search(said)), None)
    return None if known is None else _told(known, said)


def _told(known: Known, said: str) -> DeckError:
    match = known.pattern.search(said)
    assert match is not None
    words = {n.rstrip("2"): v for n, v in match.groupdict().items() if v is not None}
    return DeckError(
        known.title.format_map(_Named(words)),
        why=known.why.format_map(_Named(words)),
        fix=known.fix,
        raw=said,
    )


class _Named(dict[str, str]):
    """A group that took no part in the match reads as something general."""

    def __missing__(self, key: str) -> str:
        return {"path": "a mounted path", "place": "the port"}.get(key, "of that name")
