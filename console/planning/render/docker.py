"""A deployment as a script that starts its server in a container and leaves it running."""

from __future__ import annotations

from console.planning.containers import SHELL_HEAD, run_words, shell_before, shell_words
from console.planning.plan import image_variable
from console.planning.render.serving import Serving
from console.planning.variables import literal, shell_word


def render(serving: Serving) -> str:
    """Bash, clean under shellcheck: pull once, make a token, run, wait until it is ready."""
    image = image_variable(serving.image.name).upper()
    engine = "" if serving.plan.engine == "auto" else serving.plan.engine
    words = run_words(serving.placed)
    body = serving.worker if serving.worker.endswith("\n") else serving.worker + "\n"
    head = serving.head(f"Stop it with: docker stop {_unit(serving)}", *serving.derived())
    ports = "\n".join(
        f'{name.upper()}_PORT="${{{name.upper()}_PORT:-{port}}}"'
        for name, port in serving.port.items()
    )
    before = shell_before(words)
    return f"""#!/usr/bin/env bash
# shellcheck disable=SC2016,SC2026,SC2034,SC2317
{head}set -euo pipefail
umask 077

FOLDER="${{FOLDER:-$HOME/.local/state/tritondeck-{serving.name}}}"
REPOSITORY="${{REPOSITORY:-}}"
[ -n "$REPOSITORY" ] || REPOSITORY={shell_word(literal(serving.values["repository"]))}
ENGINE="${{ENGINE:-{engine}}}"
{image}="${{{image}:-}}"
[ -n "${image}" ] || {image}={shell_word(literal(serving.image.tag))}
{ports}
NAME={_unit(serving)}
{SHELL_HEAD.rstrip()}

[ -d "$REPOSITORY" ] || {{ echo "no model repository $REPOSITORY: deploy first" >&2; exit 1; }}
"$ENGINE" image inspect "${image}" >/dev/null 2>&1 || "$ENGINE" pull "${image}"
mkdir -p "$FOLDER/workers"
TOKEN_FILE="$FOLDER/token"
od -An -tx1 -N24 /dev/urandom | tr -d ' \\n' > "$TOKEN_FILE"
cat > "$FOLDER/workers/triton_server.py" <<'END_OF_WORKER'
{body}END_OF_WORKER
WORK="$FOLDER"
{before}
"$ENGINE" run --detach --name "$NAME" --restart unless-stopped \\
  --stop-timeout {round(serving.service.stop_timeout)} --log-opt max-size=20m \\
  {shell_words(words)} >/dev/null

for _ in $(seq {serving.start_limit}); do
  if curl --silent --fail --noproxy '*' --max-time 5 "http://127.0.0.1:$HTTP_PORT/v2/health/ready"; then
    echo "ready: http://127.0.0.1:$HTTP_PORT, container $NAME"
    exit 0
  fi
  [ "$("$ENGINE" inspect --format '{{{{.State.Running}}}}' "$NAME")" = true ] || break
  sleep 1
done
"$ENGINE" logs --tail 20 "$NAME" >&2
echo "the server is not ready; its container $NAME is left for a look" >&2
exit 1
"""


def _unit(serving: Serving) -> str:
    return f"tritondeck-{serving.name}"
