"""Build TensorRT engines through NeMo's Python classes, serve them through PyTriton, prove them.

Runs where NeMo or Export-Deploy is installed, imports nothing of tritondeck, Python 3.8 syntax.

    nemo_trtllm.py run --mode serve|export|load --arguments FILE --engine DIR
                       [--checkpoint PATH] [--language PATH] [--http-port N] [--grpc-port N]
    nemo_trtllm.py prove --engine DIR --ranks N --result FILE [--encoder NAME]

The arguments are a JSON file: the modules, the exporter's class (``TensorRTLLM`` where none stands), the
names that its ``export`` has for the paths, and the keyword arguments of the class (init), of its
``export`` and of ``DeployPyTriton`` (deploy) of the generation that was planned.
Each is compared with the installed signature before anything is built. Exit codes: 0 done, 1 refused
or failed (the last line says why), 2 wrong usage.
"""

import argparse
import importlib
import inspect
import json
import sys
from pathlib import Path


class Refused(Exception):
    """It cannot be done; the message is for the operator."""


def progress(fraction, message):
    print("[tritondeck] progress %.2f %s" % (fraction, message), flush=True)


def load(module, name):
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise Refused("cannot import %s: %s" % (module, error)) from error
    except AttributeError as error:
        raise Refused("%s has no %s" % (module, name)) from error


def check(call, arguments, shown):
    """Refuse arguments that the installed function does not name (one that takes any hides them)."""
    known = inspect.signature(call).parameters
    unknown = sorted(name for name in arguments if name not in known)
    if unknown:
        raise Refused(
            "%s takes no %s here: choose the generation that is installed"
            % (shown, ", ".join(unknown))
        )


def exporter(document, args):
    """The object that is served: built or loaded."""
    name = document.get("export_class", "TensorRTLLM")
    made = load(document["export_module"], name)
    init = dict(document["init"], model_dir=args.engine)
    check(made.__init__, init, name)
    export = dict(document["export"])
    if args.mode != "load":
        names = document.get("paths", {"checkpoint": "nemo_checkpoint_path"})
        given = {"checkpoint": args.checkpoint, "language": args.language}
        export.update({names[key]: path for key, path in given.items() if path})
        check(made.export, export, name + ".export")
    model = made(**init)
    if args.mode != "load":
        progress(0.1, "building the engine")
        model.export(**export)
    for task, path in document.get("tables", ()):
        model.add_prompt_table(task_name=task, prompt_embeddings_checkpoint_path=path)
    return model


def serve(document, args, model):
    """Blocks until the server ends. PyTriton's own class swallows errors: a missing server is one."""
    made = load(document["deploy_module"], "DeployPyTriton")
    deploy = dict(document["deploy"], model=model)
    deploy[document["http_port"]] = args.http_port
    if document["grpc_port"]:
        deploy[document["grpc_port"]] = args.grpc_port
    check(made.__init__, deploy, "DeployPyTriton")
    server = made(**deploy)
    progress(0.9, "starting the server")
    server.deploy()
    if getattr(server, "triton", None) is None:
        raise Refused("the server did not start; the lines above say why")
    server.serve()


def run(args):
    document = json.loads(Path(args.arguments).read_text(encoding="utf-8"))
    if args.mode != "load" and not args.checkpoint:
        raise Refused("no checkpoint is named")
    model = exporter(document, args)
    if args.mode != "export":
        serve(document, args, model)


def prove(args):
    """An engine's configuration with a file for every rank; what it was built with is written down."""
    folder = Path(args.engine)
    inner = folder / "llm_engine" if args.encoder else folder
    places = [inner, inner / "trtllm_engine"]
    configs = [p / "config.json" for p in places if (p / "config.json").is_file()]
    if not configs:
        raise Refused("%s holds no config.json of an engine" % inner)
    if args.encoder and not sorted((folder / args.encoder).glob("*.engine")):
        raise Refused("%s holds no engine of an encoder" % (folder / args.encoder))
    engines = sorted(p.name for p in configs[-1].parent.iterdir() if p.suffix == ".engine")
    config = json.loads(configs[-1].read_text(encoding="utf-8"))
    built = config.get("build_config") or config.get("builder_config") or {}
    told = {
        "engines": len(engines),
        "config": str(configs[-1]),
        "version": config.get("version", ""),
        "max_batch_size": built.get("max_batch_size", 0),
    }
    if len(engines) < args.ranks:
        raise Refused("%d engine files for %d ranks in %s" % (len(engines), args.ranks, folder))
    temporary = Path(args.result + ".part")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(told), encoding="utf-8")
    temporary.replace(args.result)
    progress(1.0, "%d engine file(s)" % len(engines))


def main(argv):
    parser = argparse.ArgumentParser(description="NeMo's TensorRT-LLM classes")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("run")
    one.add_argument("--mode", choices=("serve", "export", "load"), required=True)
    one.add_argument("--arguments", required=True)
    one.add_argument("--engine", required=True)
    one.add_argument("--checkpoint", default="")
    one.add_argument("--language", default="")
    one.add_argument("--http-port", type=int, default=8000)
    one.add_argument("--grpc-port", type=int, default=8001)
    two = verbs.add_parser("prove")
    two.add_argument("--engine", required=True)
    two.add_argument("--ranks", type=int, default=1)
    two.add_argument("--result", required=True)
    two.add_argument("--encoder", default="")
    args = parser.parse_args(argv)
    try:
        run(args) if args.verb == "run" else prove(args)
    except Refused as refusal:
        print(str(refusal), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
