"""The command line: a table of verbs and nothing that takes time to import.

A verb is a ``module:function`` string, imported when it runs; `--help`, `--version` and completion
import neither Textual nor tritonclient nor pydantic. Exit codes are in docs/command-line.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from console.facts import DeckError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141

FILE = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""shtab's file completion, spelled out so that shtab is imported by `completion` alone."""

Adder = Callable[[argparse.ArgumentParser], None]


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong command line is JSON too where `--json` was asked for."""

    def error(self, message: str) -> NoReturn:
        if "--json" in sys.argv[1:]:
            fix = f"{self.prog} --help"
            error = {"title": message, "why": "", "fix": fix, "raw": "", "exit_code": EXIT_USAGE}
            print(json.dumps({"version": 1, "error": error}))
            self.exit(EXIT_USAGE)
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The whole table."""
    top = Parser(
        prog="tritondeck",
        description="Take a model checkpoint to a served, tested model on NVIDIA Triton. "
        "Without a verb, open the console.",
        epilog="Exit codes: 0 success, 1 failed, 2 wrong usage, 3 refused by a check, 4 cancelled, "
        "5 unfinished. More in docs/command-line.md.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print the version and end")
    top.add_argument(
        "--readonly", action="store_true", help="look only: refuse whatever would change something"
    )
    top.set_defaults(target="console.verbs.screen:console", json=False)
    verbs = top.add_subparsers(title="verbs", metavar="VERB", parser_class=Parser)
    for name, target, text, add in TABLE:
        verb = verbs.add_parser(name, help=text, description=_sentence(text), allow_abbrev=False)
        verb.add_argument("--json", action="store_true", help="print one JSON object to stdout")
        add(verb)
        verb.set_defaults(target=target, prog=verb.prog)
    return top


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _nested(verb: argparse.ArgumentParser, entries: Sequence[tuple[str, str, str, Adder]]) -> None:
    """Sub-verbs of `runs` and `env`; the first is what the verb alone means."""
    inner = verb.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser)
    for name, target, text, add in entries:
        action = inner.add_parser(name, help=text, description=_sentence(text), allow_abbrev=False)
        # SUPPRESS: a flag given before the action must not be overwritten by the default.
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        add(action)
        action.set_defaults(target=target, prog=action.prog)


def _path(verb: argparse._ActionsContainer, name: str, text: str, **more: Any) -> None:
    verb.add_argument(name, help=text, **more).complete = FILE  # type: ignore[attr-defined]


def _inspect(verb: argparse.ArgumentParser) -> None:
    _path(verb, "path", "a checkpoint: .nemo, .onnx, a Hugging Face folder", metavar="PATH")
    verb.add_argument(
        "--scan", action="store_true", help="PATH is a folder: list every checkpoint below it"
    )


def _deployment(verb: argparse.ArgumentParser) -> None:
    _path(
        verb,
        "deployment",
        "a deployment file, the name of a saved deployment, or a checkpoint",
        metavar="FILE|NAME|CHECKPOINT",
    )
    verb.add_argument("--name", default="", help="name of the deployment (checkpoint only)")
    verb.add_argument("--backend", default="", help="export backend (checkpoint only)")
    verb.add_argument(
        "--profile", default="", help="profile of the settings to start with (checkpoint only)"
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="an option of the backend, or a key with its section: server.http_port=0",
    )
    verb.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="CHECK",
        help="go on although this check fails",
    )
    verb.set_defaults(option_flags=True)
    verb.epilog = "Each option of the backend is a flag too: `tritondeck backends NAME` lists them."


FORMATS = ("script", "docker", "systemd", "systemd-user", "compose", "kubernetes", "slurm")
"""Of `console.desk.render.FORMATS`, spelled out so that help imports nothing."""


def _plan(verb: argparse.ArgumentParser) -> None:
    _deployment(verb)
    how = verb.add_mutually_exclusive_group()
    how.add_argument(
        "--as",
        dest="form",
        choices=FORMATS,
        default="",
        help="print it for another way of running it; script builds and needs no tritondeck",
    )
    how.add_argument(
        "--script",
        action="store_const",
        const="script",
        dest="form",
        help="the same as --as script",
    )


def _deploy(verb: argparse.ArgumentParser) -> None:
    _deployment(verb)
    verb.add_argument("--detach", action="store_true", help="start it and return at once")
    verb.add_argument("--force", action="store_true", help="run unchanged steps too")
    verb.add_argument(
        "--from", dest="from_step", default="", metavar="STEP", help="run this step and all after"
    )


def _run_id(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("run", metavar="RUN", help="a run's id, or a deployment (its newest run)")


def _retry(verb: argparse.ArgumentParser) -> None:
    _run_id(verb)
    verb.add_argument("--from", dest="from_step", default="", metavar="STEP", help="from this step")
    verb.add_argument("--detach", action="store_true", help="start it and return at once")


def _run_list(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", nargs="?", default="", metavar="NAME", help="of this deployment only")


def _runs(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(name="")
    _nested(
        verb,
        (
            ("list", "console.verbs.runs:listed", "list runs, the newest first", _run_list),
            ("show", "console.verbs.runs:show", "show one run with its steps", _run_id),
            ("cancel", "console.verbs.runs:cancel", "end the current step and stop", _run_id),
            ("retry", "console.verbs.runs:retry", "continue a run that did not succeed", _retry),
            ("delete", "console.verbs.runs:delete", "remove a finished run's folder", _run_id),
        ),
    )


def _logs(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="a deployment: its newest run's logs"
    )
    verb.add_argument("-f", "--follow", action="store_true", help="go on until the end")
    verb.add_argument("--run", default="", metavar="ID", help="this run's logs")
    verb.add_argument("--service", default="", metavar="ID", help="this service's log")
    verb.add_argument("--step", default="", help="this step only")
    verb.add_argument("-n", "--lines", type=int, default=None, help="only the last lines of each")


def _stop(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a deployment, or a service's id")


def _scale(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a deployment of the backend ray-serve")
    verb.add_argument(
        "replicas", nargs="?", type=int, default=None, metavar="REPLICAS",
        help="how many there are to be; without it, show nodes and replicas",
    )  # fmt: skip


def _attach(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("url", metavar="URL", help="http://HOST:PORT, https://, grpc:// or grpcs://")
    verb.add_argument("--name", required=True, help="what you call it")
    verb.add_argument(
        "--kind", choices=("triton", "openai"), default="triton", help="what it speaks (triton)"
    )
    verb.add_argument("--metrics", default="", metavar="URL", help="where its metrics are")
    _path(verb, "--ca-file", "PEM file of its authority", default="", metavar="FILE")
    token = verb.add_mutually_exclusive_group()
    _path(token, "--token-file", "file that holds its token", default="", metavar="FILE")
    token.add_argument("--token-env", default="", metavar="VAR", help="variable with its token")
    verb.add_argument("--token-header", default="", metavar="NAME", help="header for the token")
    verb.add_argument("--control", action="store_true", help="allow to load and unload its models")


def _detach(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="an attached server")


def _monitor(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--once", action="store_true", help="print one look and end")
    verb.add_argument("--csv", action="store_true", help="print figures as CSV, a line a sample")
    verb.add_argument("--interval", type=float, default=0.0, metavar="S", help="between samples")
    verb.add_argument("--count", type=int, default=0, metavar="N", help="end after so many samples")
    _path(verb, "--record", "write a recording while it runs", default="", metavar="FILE")
    _path(
        verb,
        "--replay",
        "show a recording: a file, or that of a run, service or deployment",
        default="",
        metavar="FILE|NAME",
    )
    verb.add_argument(
        "--prometheus", type=int, default=None, metavar="PORT",
        help="offer the figures at http://127.0.0.1:PORT/metrics (0: a free port)",
    )  # fmt: skip
    verb.epilog = "With --json: one JSON object a sample, one a line (one look with --once)."


def _incident(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a run, a service, or a deployment")
    _path(verb, "--output", "the zip to write", default="", metavar="FILE")


def _rollback(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a deployment")
    verb.add_argument(
        "--to", type=int, default=0, metavar="N", help="this version, not the one before"
    )


def _query(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME|URL", help="a deployment, a service, or a server's URL")
    verb.add_argument("--model", default="", help="which model (the only one when absent)")
    _path(verb, "--audio", "a sound file for the model's sound field", default="", metavar="FILE")
    _path(verb, "--image", "an image file for its image field", default="", metavar="FILE")
    _path(verb, "--video", "a video file for its video field", default="", metavar="FILE")
    verb.add_argument("--text", default=None, help="a text for its text field")
    verb.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        metavar="NAME=VALUE",
        help="a field by its name (an unknown name lists them)",
    )
    how = verb.add_mutually_exclusive_group()
    how.add_argument("--curl", action="store_true", help="print the request for curl, do not send")
    how.add_argument("--python", action="store_true", help="print it as Python, do not send")


def _store_name(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a deployment of the backend clip-retrieval")


def _store_filter(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--filter",
        default="",
        metavar="JSON",
        help='records with these values: \'{"color": "red"}\'',
    )


def _store_fill(verb: argparse.ArgumentParser) -> None:
    _store_name(verb)
    _path(verb, "source", "a folder of images, or a file of JSON lines", metavar="FOLDER|FILE")
    verb.add_argument("--replace", action="store_true", help="empty the collection first")


def _store_count(verb: argparse.ArgumentParser) -> None:
    _store_name(verb)
    _store_filter(verb)


def _store_search(verb: argparse.ArgumentParser) -> None:
    _store_name(verb)
    _path(verb, "--image", "look for what is in this image", default="", metavar="FILE")
    verb.add_argument("--text", default="", help="look for what this text says")
    verb.add_argument("--top", type=int, default=0, metavar="N", help="how many records")
    verb.add_argument(
        "--against",
        choices=("image", "text", "sentence"),
        default="",
        help="vectors to compare with",
    )
    _store_filter(verb)


def _store_delete(verb: argparse.ArgumentParser) -> None:
    _store_name(verb)
    verb.add_argument("ids", nargs="*", default=[], metavar="ID", help="a record's id")
    _store_filter(verb)
    verb.add_argument("--all", action="store_true", help="every record")


def _store(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(target="console.verbs.store:actions")
    _nested(
        verb,
        (
            ("fill", "console.verbs.store:fill", "write records, or go on with it", _store_fill),
            ("count", "console.verbs.store:count", "count records", _store_count),
            ("search", "console.verbs.store:search", "show the best records", _store_search),
            ("delete", "console.verbs.store:delete", "remove records", _store_delete),
            ("rebuild", "console.verbs.store:rebuild", "make the indexes anew", _store_name),
        ),
    )


def _env_name(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="embedded, nemo, or a name from `env list`")


def _nothing(verb: argparse.ArgumentParser) -> None:
    """A verb without arguments."""


def _env(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(sizes=True)
    _nested(
        verb,
        (
            ("list", "console.verbs.env:listed", "list managed environments with sizes", _nothing),
            ("create", "console.verbs.env:create", "create one now", _env_name),
            ("remove", "console.verbs.env:remove", "remove one", _env_name),
        ),
    )


def _backends(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", nargs="?", default="", metavar="NAME", help="list its options")


def _forget(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a saved deployment")


def _clone(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a saved deployment, or a deployment file")
    verb.add_argument("new", metavar="NEW", help="name of the copy")


def _edit(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a saved deployment")


def _diff(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("left", metavar="A", help="a deployment, a deployment file, or a run's id")
    verb.add_argument("right", metavar="B", help="the other one")


def _shell(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", metavar="NAME", help="a saved deployment, or a deployment file")
    verb.add_argument(
        "--environment",
        default="",
        metavar="ENV",
        help="one that it uses, `host` for none, `container` for the one that serves",
    )
    verb.usage = "tritondeck shell [-h] [--environment ENV] NAME [-- COMMAND ...]"
    verb.epilog = "COMMAND, after two dashes, runs instead of a shell."
    verb.set_defaults(command=[])


def _clean(verb: argparse.ArgumentParser) -> None:
    for kind, text in CLEAN_KINDS.items():
        verb.add_argument(
            f"--{kind}", action="append_const", const=kind, dest="kinds", help=f"only {text}"
        )
    verb.add_argument(
        "--older-than", default="", metavar="AGE", help="only what is older: 30d, 12h, 2w"
    )
    verb.add_argument(
        "--keep", type=int, default=5, metavar="N", help="newest ended runs that stay (5)"
    )
    how = verb.add_mutually_exclusive_group()
    how.add_argument("--yes", action="store_true", help="remove what is safe to remove")
    how.add_argument("--dry-run", action="store_true", help="list only, which is the default")


CLEAN_KINDS = {
    "environments": "managed environments that nothing names any more, and unfinished ones",
    "runs": "ended runs beyond the newest of each deployment",
    "services": "folders of ended services beyond the newest of each deployment",
    "work": "work folders of deployments that are gone",
    "trash": "what was forgotten or removed before",
    "crashes": "crash files",
    "hub": "checkpoints that were fetched by hub id",
    "versions": "models' versions beyond the live and the newest ones; never unless it is named",
    "containers": "containers of ours that nobody follows",
}
"""Of `console.desk.clean.KINDS`, spelled out so that help imports nothing."""


def _quickstart(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--keep", action="store_true", help="leave the server running at the end")


def _completion(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("shell", choices=("bash", "zsh", "tcsh"))


TABLE: tuple[tuple[str, str, str, Adder], ...] = (
    ("inspect", "console.verbs.inspect:inspect", "say what a checkpoint is", _inspect),
    ("backends", "console.verbs.inspect:backends", "list export backends, or options", _backends),
    ("plan", "console.verbs.deploy:plan", "show the steps of a deployment, run nothing", _plan),
    ("check", "console.verbs.deploy:check", "run every check, start nothing", _deployment),
    ("deploy", "console.verbs.deploy:deploy", "check, build, serve and verify", _deploy),
    ("deployments", "console.verbs.runs:deployments", "list saved deployments", _nothing),
    ("forget", "console.verbs.runs:forget", "move a saved deployment to the trash", _forget),
    ("clone", "console.verbs.deployments:clone", "copy a deployment under a new name", _clone),
    ("edit", "console.verbs.deployments:edit", "edit a deployment, checked when saved", _edit),
    ("diff", "console.verbs.deployments:diff", "compare two deployments or runs", _diff),
    ("shell", "console.verbs.deployments:shell", "open a shell where its steps run", _shell),
    ("runs", "console.verbs.runs:listed", "list, show, cancel, continue, delete runs", _runs),
    ("logs", "console.verbs.logs:logs", "print a run's or a service's logs", _logs),
    ("services", "console.verbs.services:listed", "list services that we started", _nothing),
    ("ps", "console.verbs.services:listed", "the same as services", _nothing),
    ("stop", "console.verbs.services:stop", "stop a service and wait for its end", _stop),
    ("scale", "console.verbs.scale:scale", "show or change replicas on a Ray cluster", _scale),
    ("monitor", "console.verbs.monitor:monitor", "watch GPUs, servers, this host", _monitor),
    ("attach", "console.verbs.attach:attach", "watch somebody else's server", _attach),
    ("detach", "console.verbs.attach:detach", "watch it no more", _detach),
    ("incident", "console.verbs.incident:incident", "pack a run or service into a zip", _incident),
    ("versions", "console.verbs.versions:listed", "list a deployment's versions", _forget),
    ("rollback", "console.verbs.versions:rollback", "let an earlier version answer", _rollback),
    ("remove", "console.verbs.versions:remove", "take models out of their server", _forget),
    ("query", "console.verbs.query:query", "send one request and print the answer", _query),
    ("store", "console.verbs.store:actions", "records that a retrieval model searches", _store),
    ("env", "console.verbs.env:listed", "list, create, remove managed environments", _env),
    ("clean", "console.verbs.clean:clean", "list what takes space, remove what is safe", _clean),
    ("quickstart", "console.verbs.quickstart:quickstart", "from checkpoint to answer", _quickstart),
    ("doctor", "console.verbs.doctor:doctor", "say what this machine can do", _nothing),
    ("completion", "console.verbs.screen:completion", "print shell completion", _completion),
    ("version", "console.verbs.screen:version", "print the version", _nothing),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code. Never a traceback for an operator's error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not under every test runner
            stream.reconfigure(errors="backslashreplace")
    args = None
    try:
        args = _parsed(argv)
        if args.version:
            args.target = "console.verbs.screen:version"
        code = _call(args)
        sys.stdout.flush()
        return code
    except DeckError as error:
        from console.verbs.output import show_error

        return show_error(error, as_json=_as_json(args, argv))
    except BrokenPipeError:
        _discard_output()  # whoever read it is gone
        return EXIT_PIPE
    except OSError as error:
        return _show_os_error(error, as_json=_as_json(args, argv))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a defect of ours: said, kept in a file, never shown
        return _show_defect(error, as_json=_as_json(args, argv))


def _as_json(args: argparse.Namespace | None, argv: Sequence[str] | None) -> bool:
    if args is not None:
        return bool(args.json)
    return "--json" in (sys.argv[1:] if argv is None else argv)


def _show_defect(error: Exception, *, as_json: bool) -> int:
    """One line for a person, an object for a script; the traceback goes to a private file."""
    from console.diagnosis import crash
    from console.settings import folders
    from console.verbs.output import show_error

    saved = crash.write_crash(folders(), error, f"tritondeck {version()}")
    if as_json:
        return show_error(crash.in_words(error, saved), as_json=True)
    print(crash.one_line(error, saved), file=sys.stderr)
    return DeckError.exit_code


def _show_os_error(error: OSError, *, as_json: bool) -> int:
    """An error of the system that no room has put into words: a permission, a full disk."""
    from console.verbs.output import show_error

    place = f": {error.filename}" if error.filename else ""
    words = DeckError(f"{error.strerror or error}{place}", why=type(error).__name__)
    try:
        show_error(words, as_json=as_json)
        sys.stdout.flush()
    except OSError:
        _discard_output()  # stdout is what failed: a full disk behind a redirection
    return words.exit_code


def _discard_output() -> None:
    """Keep the interpreter's last flush of stdout quiet too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Flags that argparse does not know are options of the backend where the verb takes those."""
    table = parser()
    given = list(sys.argv[1:] if argv is None else argv)
    command: list[str] = []
    if "--" in given and next((word for word in given if not word.startswith("-")), "") == "shell":
        # argparse would give its own flags to a command of many words.
        cut = given.index("--")
        given, command = given[:cut], given[cut + 1 :]
    args, rest = table.parse_known_args(given)
    if command:
        args.command = command
    if rest and not getattr(args, "option_flags", False):
        table.error(f"unrecognized arguments: {' '.join(rest)}")
    # argparse takes the value of an unknown flag for the deployment.
    if rest and rest[0] in given and given.index(args.deployment) > given.index(rest[0]):
        table.error("name the deployment before the options of its backend")
    args.option_words = rest
    return args


def _call(args: argparse.Namespace) -> int:
    module, _, function = args.target.partition(":")
    verb: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
    return verb(args)


def version() -> str:
    from importlib import metadata

    return metadata.version("tritondeck")


if __name__ == "__main__":
    sys.exit(main())
