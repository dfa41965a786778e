"""Compare planned arguments with what the vLLM of this Python really takes, without importing it.

Runs wherever vLLM is: standard library only, Python 3.8 syntax, imports nothing of tritondeck. The
engine's arguments are the fields of its class `EngineArgs`; the syntax tree of its source holds them.

    check_vllm.py -- --FLAG[=VALUE]…          flags of the OpenAI server
    check_vllm.py --keys FILE                 keys of a model.json of Triton's vLLM backend

Exit codes: 0 all are known, 1 some are not or vLLM is not here (the lines say what), 2 wrong usage.
"""

import argparse
import ast
import importlib.util
import json
import sys
from pathlib import Path

ENGINE = "engine/arg_utils.py"
FRONTS = ("entrypoints/openai/cli_args.py", "entrypoints/launchers/cli_args.py")
CLASSES = ("EngineArgs", "AsyncEngineArgs", "BaseFrontendArgs", "FrontendArgs")
SERVER = ("host", "port", "lora_modules")


def names_in(source):
    """Fields of the argument classes and literal flags, with underscores."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            fields = (part.target for part in node.body if isinstance(part, ast.AnnAssign))
            found.update(target.id for target in fields if isinstance(target, ast.Name))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            words = (word.value for word in node.args if isinstance(word, ast.Constant))
            found.update(plain(word) for word in words if str(word).startswith("--"))
    return found


def plain(flag):
    return flag.lstrip("-").replace("-", "_")


def package():
    """vLLM's folder; its spec is found without running any of it."""
    spec = importlib.util.find_spec("vllm")
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def planned(args):
    """The names that are planned, with underscores, and what they are called."""
    if args.keys:
        return sorted(json.loads(Path(args.keys).read_text(encoding="utf-8"))), "argument"
    flags = [word.partition("=")[0] for word in args.words if word.startswith("--")]
    return [plain(flag) for flag in flags], "flag"


def main(argv):
    parser = argparse.ArgumentParser(description="compare planned arguments with vLLM")
    parser.add_argument("--keys", default="")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args(argv)
    folder = package()
    if folder is None:
        print("[tritondeck] fail there is no vLLM in the Python %s" % sys.executable)
        return 1
    known = set(SERVER) if not args.keys else set()
    for name in (ENGINE,) if args.keys else (ENGINE, *FRONTS):
        if (folder / name).is_file():
            known |= names_in((folder / name).read_text(encoding="utf-8"))
    wanted, kind = planned(args)
    missing = [name for name in wanted if name not in known]
    for name in missing:
        print("[tritondeck] fail the vLLM in %s has no %s %s" % (folder, kind, name))
    if not missing:
        print("[tritondeck] pass the vLLM in %s knows all %d arguments" % (folder, len(wanted)))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
