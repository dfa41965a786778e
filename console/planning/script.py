"""A plan as a shell script that reproduces the deployment without tritondeck.

It needs bash, Python 3 with venv, curl and the checkpoint, and docker or podman where the plan has
images. It creates the environments, writes the workers and configurations from here-documents, and
reads the token from a 0600 file that it makes.
Every word goes through `variables.shell_word`, so a path with spaces or quotes stays one word.
"""

from __future__ import annotations

import json
import re
from importlib import resources

from console.planning.containers import (
    SHELL_HEAD,
    dockerfile,
    run_words,
    shell_before,
    shell_words,
)
from console.planning.plan import (
    Command,
    CommandStep,
    EnvironmentSpec,
    EnvironmentStep,
    ExitCode,
    FileExists,
    FileSpec,
    ImageSpec,
    ImageStep,
    Inference,
    JoinStep,
    JsonFile,
    LoadStep,
    LogMarker,
    Plan,
    Probe,
    ServiceSpec,
    ServiceStep,
    Step,
    SwitchStep,
    TextAnswered,
    UrlReady,
    VerifyStep,
    WriteStep,
    image_variable,
    join,
)
from console.planning.variables import Variable, literal, shell_word

TOKEN_HEADER = "triton-access-token"


def render(plan: Plan) -> str:
    """The whole script; clean under shellcheck and `bash -n`, and a pure function of the plan."""
    urls = {s.service.name: s.service.http_url for s in plan.steps if isinstance(s, ServiceStep)}
    urls |= {s.service: s.http_url for s in plan.steps if isinstance(s, JoinStep)}
    helper = (resources.files("console.planning") / "script_helper.py").read_text(encoding="utf-8")
    parts = [
        _head(plan),
        _here('"$WORK/workers/script_helper.py"', helper),
        _environment_variables(plan),
        _images(plan),
        _variables(plan),
    ]
    for number, step in enumerate(plan.steps, 1):
        parts.append(f"# ---- {number}/{len(plan.steps)} {_comment(step.title)}")
        if step.why:
            parts.append(f"# {_comment(step.why)}")
        parts.append(f"say {shell_word(literal(f'{number}/{len(plan.steps)} {step.title}'))}")
        parts.append(_step(step, plan, urls))
    parts.append("say 'done'\n")
    return "\n".join(part for part in parts if part)


def _comment(text: str) -> str:
    return " ".join(text.split())


def _head(plan: Plan) -> str:
    name = shell_word(literal(plan.deployment))
    engine = " and docker or podman" if plan.images else ""
    notes = "".join(f"# {_comment(note)}\n" for note in plan.notes)
    return f"""#!/usr/bin/env bash
# shellcheck disable=SC2016,SC2026
# tritondeck deployment {_comment(plan.deployment)}, backend {plan.backend}.
# Runs without tritondeck; needs bash, curl and python3 with venv{engine}. The server stops with the script
# unless KEEP=1.
{notes}set -euo pipefail
umask 077
export LC_ALL=C.UTF-8

DEPLOYMENT={name}
WORK="${{WORK:-$PWD/$DEPLOYMENT}}"
PYTHON="${{PYTHON:-python3}}"
mkdir -p "$WORK/logs" "$WORK/workers"

say() {{ printf '%s\\n' "$*"; }}
die() {{ printf 'failed: %s\\n' "$*" >&2; exit 1; }}
"""


def _environment_variables(plan: Plan) -> str:
    lines = []
    for env in plan.environments:
        variable = f"ENV_{env.name.replace('-', '_').upper()}"
        default = (
            shell_word(literal(env.existing))
            if env.existing
            else f'"$WORK/environments/{env.name}-{env.digest}"'
        )
        lines.append(f'{variable}="${{{variable}:-}}"')
        lines.append(f'[ -n "${variable}" ] || {variable}={default}')
    return "\n".join(lines)


def _images(plan: Plan) -> str:
    if not plan.images:
        return ""
    engine = "" if plan.engine == "auto" else plan.engine
    lines = [f'ENGINE="${{ENGINE:-{engine}}}"', SHELL_HEAD.rstrip()]
    for image in plan.images:
        name = image_variable(image.name).upper()
        lines.append(f'{name}="${{{name}:-}}"')
        lines.append(f'[ -n "${name}" ] || {name}={shell_word(literal(image.tag))}')
    return "\n".join(lines)


def _variables(plan: Plan) -> str:
    lines = ['TOKEN_FILE="${TOKEN_FILE:-$WORK/token}"']
    for variable in plan.variables:
        lines.append(_variable(variable))
    return "\n".join(lines)


def _variable(variable: Variable) -> str:
    name = variable.name.upper()
    comment = f"  # {_comment(variable.help)}" if variable.help else ""
    if variable.kind == "joined":
        missing = shell_word(literal(f"set {name}: {_comment(variable.help)}"))
        return f'[ -n "${{{name}:-}}" ] || die {missing}'
    first = f'{name}="${{{name}:-}}"{comment}'
    if variable.kind == "port" and variable.default in ("", "0"):
        value = '"$("$PYTHON" "$WORK/workers/script_helper.py" free-port)"'
    else:
        value = shell_word(variable.default)
    return f'{first}\n[ -n "${name}" ] || {name}={value}'


def _step(step: Step, plan: Plan, urls: dict[str, str]) -> str:
    lines: list[str] = []
    log = f'"$WORK/logs/{step.id}.log"'
    match step:
        case EnvironmentStep():
            spec = next(e for e in plan.environments if e.name == step.environment)
            lines.append(_environment(spec, log))
        case ImageStep():
            lines.append(_image(next(i for i in plan.images if i.name == step.image), log))
        case WriteStep():
            lines.extend(_file(file) for file in step.files)
        case CommandStep() if step.command.image:
            words = run_words(step.command)
            lines += filter(None, [_folders(step.command), shell_before(words)])
            lines.append(f'"$ENGINE" run --rm {shell_words(words)} 2>&1 | tee {log}')
        case CommandStep():
            lines.append(
                f"( cd {shell_word(step.command.cwd)} && {_command(step.command)} ) 2>&1 | tee {log}"
            )
        case ServiceStep():
            lines.append(_service(step.service, log, _before(step, plan)))
            if step.service.command is not None and step.service.command.nodes > 1:
                lines.append(_other_node(step.service.command.nodes))
        case JoinStep():
            lines.append(_join(step))
        case LoadStep():
            url = shell_word(urls[step.service])
            for model in step.models:
                lines += _configured(model, step.version) if step.version else []
                lines.append(_load(url, model, step.model_timeout))
        case VerifyStep():
            pass
        case SwitchStep():
            lines.append("# nothing is switched here: the newest version is the one that is served")
    url = _url_of(step, urls)
    lines.extend(filter(None, (_probe(probe, log, url) for probe in step.success)))
    return "\n".join(lines) + "\n"


def _url_of(step: Step, urls: dict[str, str]) -> str:
    """Where the server of a step answers (template); empty for a step without one."""
    if isinstance(step, ServiceStep):
        return step.service.http_url
    if isinstance(step, LoadStep | VerifyStep | SwitchStep):
        return urls[step.service]
    return ""


def _environment(spec: EnvironmentSpec, log: str) -> str:
    variable = f"$ENV_{spec.name.replace('-', '_').upper()}"
    if spec.existing:
        return f'[ -x "{variable}/bin/python" ] || die "no Python in {variable}"'
    pip = f'"{variable}/bin/python" -m pip install --disable-pip-version-check'
    python = shell_word(literal(spec.python)) if spec.python else '"$PYTHON"'
    lines = [
        f'if [ ! -x "{variable}/bin/python" ] || [ -e "{variable}/.incomplete" ]; then',
        f'  mkdir -p "{variable}" && : > "{variable}/.incomplete"',
        f'  {python} -m venv "{variable}"',
    ]
    if spec.constraints:
        lines.append(_here(f'"{variable}/constraints.txt"', "\n".join(spec.constraints)))
        pip += f' -c "{variable}/constraints.txt"'
    for label, requirements in (("first", spec.pre), ("then", spec.requirements)):
        if requirements:
            file = f'"{variable}/requirements-{label}.txt"'
            lines.append(_here(file, "\n".join(requirements)))
            alone = " --no-deps" if spec.whole and label == "then" else ""
            lines.append(f"  {pip}{alone} -r {file} 2>&1 | tee -a {log}")
    if spec.imports:
        lines.append(
            f'  "{variable}/bin/python" -c {shell_word("import " + ", ".join(spec.imports))}'
        )
    lines += [f'  rm -f "{variable}/.incomplete"', "fi"]
    return "\n".join(lines)


def _image(spec: ImageSpec, log: str) -> str:
    variable = f'"${image_variable(spec.name).upper()}"'
    lines = [f'if ! "$ENGINE" image inspect {variable} >/dev/null 2>&1; then']
    if spec.base:
        folder = f'"$WORK/images/{spec.name}"'
        lines += [
            f"  mkdir -p {folder}/pip && : >> {folder}/pip/pip.conf",
            _here(f"{folder}/requirements.txt", "\n".join(spec.requirements)),
            _here(f"{folder}/Dockerfile", dockerfile(spec)),
            '  "$ENGINE" buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0',
            f'  "$ENGINE" build --network host --tag {variable} {folder} 2>&1 | tee {log}',
        ]
    elif spec.tar:
        lines.append(f'  "$ENGINE" load --input {shell_word(literal(spec.tar))} 2>&1 | tee {log}')
    else:
        lines.append(f'  "$ENGINE" pull {variable} 2>&1 | tee {log}')
    return "\n".join([*lines, "fi"])


def _folders(command: Command) -> str:
    """Make the mounted folders that may not exist yet."""
    mounts = command.container.mounts if command.container else ()
    made = [shell_word(mount.source) for mount in mounts if mount.create]
    return " ".join(["mkdir -p", *made]) if made else ""


def _file(file: FileSpec) -> str:
    path = shell_word(file.path)
    lines = [f'mkdir -p "$(dirname -- {path})"']
    if file.template:
        words = " ".join(shell_word(line) for line in file.text.removesuffix("\n").split("\n"))
        lines.append(f"printf '%s\\n' {words} > {path}")
    else:
        lines.append(_here(path, file.text))
    lines.append(f"chmod {file.mode:o} {path}")
    return "\n".join(lines)


def _here(path: str, text: str) -> str:
    """`cat` of a quoted here-document whose end mark does not occur in the text."""
    mark = "END"
    while re.search(rf"^{mark}$", text, re.MULTILINE):
        mark += "_"
    body = text if text.endswith("\n") else text + "\n"
    return f"cat > {path} <<'{mark}'\n{body}{mark}"


def _command(command: Command) -> str:
    words = ["env"]
    if command.runtime.startswith("environment:"):
        variable = "ENV_" + command.runtime.partition(":")[2].replace("-", "_").upper()
        words.append(f'PATH="${variable}/bin:$PATH"')
    words += [f"{name}={shell_word(value)}" for name, value in command.env.items()]
    if len(words) == 1:
        words = []
    return " ".join([*words, *(shell_word(word) for word in command.argv)])


def _before(step: ServiceStep, plan: Plan) -> tuple[ServiceSpec, ...]:
    """The servers that the plan starts before this step."""
    earlier = plan.steps[: plan.steps.index(step)]
    return tuple(one.service for one in earlier if isinstance(one, ServiceStep))


def _attached(service: ServiceSpec) -> str:
    """Somebody else's server: nothing is started, SERVER is this script itself."""
    lines = ["SERVER=$$", 'export HEADER_FILE="$WORK/token-header"']
    if service.ca_file:
        place = shell_word(service.ca_file)
        lines.append(f"export SSL_CERT_FILE={place} CURL_CA_BUNDLE={place}")
    token = ""
    if service.token_env:
        token = f'"${{{service.token_env}:?}}"'
    elif service.token_file:
        token = f'"$(cat {shell_word(service.token_file)})"'
    header = f"printf '{service.token_header}: %s\\n' {token}" if token else ":"
    lines.append(f'{header} > "$HEADER_FILE"')
    return "\n".join(lines)


def _ending(service: ServiceSpec) -> str:
    """What ends the server that SERVER and CONTAINER name."""
    if not service.process.image:
        return 'kill "$SERVER" 2>/dev/null || true; wait "$SERVER" 2>/dev/null || true'
    seconds = round(service.stop_timeout)
    return (
        f'"$ENGINE" stop -t {seconds} "$CONTAINER" >/dev/null || true; wait "$SERVER" || true; '
        '"$ENGINE" rm --force "$CONTAINER" >/dev/null || true'
    )


def _service(service: ServiceSpec, log: str, before: tuple[ServiceSpec, ...] = ()) -> str:
    """Start the server; it ends before those that the script started `before` it."""
    if service.command is None:
        return _attached(service)
    started = [one for one in before if one.command is not None]
    ending = _ending(service)
    for number, one in reversed(tuple(enumerate(started))):
        ending += f'; SERVER="$SERVER_{number}" CONTAINER="$CONTAINER_{number}"; {_ending(one)}'
    lines = [f"mkdir -p {shell_word(service.repository)}"]
    if started:
        number = len(started) - 1
        lines.append(f'SERVER_{number}="$SERVER" CONTAINER_{number}="${{CONTAINER:-}}"')
    if service.token_file:
        token = shell_word(service.token_file)
        lines += [
            f"\"$PYTHON\" -c 'import secrets; print(secrets.token_urlsafe(32))' > {token}",
            _token_header(token),
        ]
    elif service.token_env:
        bearer = "Bearer " if service.token_header == "Authorization" else ""
        lines.append(
            f"printf '{service.token_header}: {bearer}%s\\n' \"${{{service.token_env}:?}}\" "
            '> "$WORK/token-header"'
        )
    else:
        lines.append(': > "$WORK/token-header"')
    if service.process.image:
        return "\n".join([*lines, _container(service, log, ending)])
    lines += [
        f"( cd {shell_word(service.process.cwd)} && exec {_command(service.process)} ) > {log} 2>&1 &",
        "SERVER=$!",
        'if [ "${KEEP:-}" = 1 ]; then',
        '  say "server process $SERVER stays; stop it with: kill $SERVER"',
        "else",
        f"  trap '{ending}' EXIT",
        "fi",
    ]
    return "\n".join(lines)


def _other_node(nodes: int) -> str:
    """The first node alone answers; the others run until they are ended."""
    return (
        'if [ "$NODE_RANK" != 0 ]; then\n'
        f'  say "node $NODE_RANK of {nodes} runs; the first one, $MASTER_ADDR, answers"\n'
        '  wait "$SERVER"\n'
        "  exit\n"
        "fi"
    )


def _container(service: ServiceSpec, log: str, ending: str) -> str:
    """The server in a container of its own; SERVER is what follows its log and ends with it."""
    words = run_words(service.process)
    seconds = round(service.stop_timeout)
    lines = [
        _folders(service.process),
        shell_before(words),
        f'CONTAINER="$("$ENGINE" run --detach --stop-timeout {seconds} {shell_words(words)})"',
        f'"$ENGINE" logs --follow "$CONTAINER" > {log} 2>&1 &',
        "SERVER=$!",
        'if [ "${KEEP:-}" = 1 ]; then',
        f'  say "the container stays; stop it with: $ENGINE stop -t {seconds} $CONTAINER"',
        "else",
        f"  trap '{ending}' EXIT",
        "fi",
    ]
    return "\n".join(filter(None, lines))


def _token_header(file: str) -> str:
    return f'printf \'{TOKEN_HEADER}: %s\\n\' "$(cat {file})" > "$WORK/token-header"'


def _join(step: JoinStep) -> str:
    """The server of another deployment: its values are given, and it is not ours to stop."""
    lines = [
        f"# joins the server of {_comment(step.deployment)}; TOKEN_FILE names its token",
        _token_header('"$TOKEN_FILE"'),
        "SERVER=$$",
    ]
    return "\n".join(lines)


def _configured(model: str, version: str) -> list[str]:
    """Put the configuration of the version in its place."""
    folder = join("${repository}", literal(model))
    source = shell_word(join(folder, version, "config.pbtxt"))
    return [f"cp {source} {shell_word(join(folder, 'config.pbtxt'))}"]


def _load(url: str, model: str, timeout: float) -> str:
    target = f"{url}/v2/repository/models/{shell_word(literal(model))}/load"
    return (
        f'curl --silent --show-error --noproxy "*" --fail-with-body --max-time {timeout:g} '
        f'-H @"$WORK/token-header" -X POST {target}'
    )


def _ready(url: str, probe: UrlReady, log: str) -> str:
    ask = (
        f"curl --silent --noproxy '*' --output /dev/null --write-out '%{{http_code}}' --max-time 5 "
        f'-H @"$WORK/token-header" {url}'
    )
    return f"""DEADLINE=$((SECONDS + {max(1, round(probe.timeout))}))
until [ "$({ask} || true)" = {probe.status} ]; do
  kill -0 "$SERVER" 2>/dev/null || die "the server ended; its log is "{log}
  [ "$SECONDS" -lt "$DEADLINE" ] || die "no answer in {probe.timeout:g} s; the log is "{log}
  sleep 0.2
done"""


def _probe(probe: Probe, log: str, url: str) -> str:
    helper = '"$PYTHON" "$WORK/workers/script_helper.py"'
    match probe:
        case ExitCode():
            return ""  # set -e and pipefail see to it
        case FileExists():
            size = probe.min_bytes
            path = shell_word(probe.path)
            return f'[ "$(stat -c %s -- {path} 2>/dev/null || echo 0)" -ge {size} ] || die "no file "{path}'
        case JsonFile():
            return f"{helper} json {shell_word(probe.path)} {_json(probe.expect)}"
        case LogMarker():
            wanted = "absent" if probe.absent else "present"
            return f"{helper} log {log} {shell_word(literal(probe.pattern))} {wanted}"
        case UrlReady():
            return _ready(shell_word(probe.url), probe, log)
        case Inference():
            if not url:
                raise ValueError("an inference probe needs a step with a service")
            return _infer(probe, helper, url)
        case TextAnswered():
            if not url:
                raise ValueError("a text probe needs a step with a service")
            spec = probe.model_dump(mode="json", exclude={"kind", "title"})
            return f"{helper} text {shell_word(url)} {_json(spec)}"


def _infer(probe: Inference, helper: str, url: str) -> str:
    spec, files = probe.indexed()
    return " ".join([helper, "infer", shell_word(url), _json(spec), *map(shell_word, files)])


def _json(value: object) -> str:
    return shell_word(literal(json.dumps(value, ensure_ascii=False)))
