"""Put an ONNX graph with its external data into a model repository, and prove that it runs.

Runs in the `embedded` environment (NumPy and ONNX Runtime), imports nothing of tritondeck, Python 3.10
syntax. The graph is opened by ONNX Runtime before it is published; its inputs and outputs must be the
predicted ones. With `--samples` one request is made up, run, and saved as ``<index>.npy`` files.
Exit codes: 0 published, 1 refused (the last line says why), 2 wrong usage.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

TYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(string)": "BYTES",
    "tensor(bool)": "BOOL",
    **{"tensor(int%d)" % bits: "INT%d" % bits for bits in (8, 16, 32, 64)},
    **{"tensor(uint%d)" % bits: "UINT%d" % bits for bits in (8, 16, 32, 64)},
}
NUMPY = {"FP32": "float32", "FP64": "float64", "FP16": "float16", "BOOL": "bool"}


class Refused(Exception):
    """The graph is not acceptable; the message is for the operator."""


def progress(fraction, message):
    print("[tritondeck] progress %.2f %s" % (fraction, message), flush=True)


def find(path):
    """The graph itself: the file, or the folder's ``model.onnx`` or only ``.onnx`` file."""
    if path.is_file():
        return path
    graphs = sorted(path.glob("*.onnx"))
    named = [graph for graph in graphs if graph.name == "model.onnx"]
    if len(named or graphs) != 1:
        raise Refused("%s holds %d .onnx files" % (path, len(graphs)))
    return (named or graphs)[0]


def copy(graph, sidecars, folder):
    """Copy the graph as ``model.onnx`` with its sidecars, whose names the graph refers to."""
    shutil.copyfile(str(graph), str(folder / "model.onnx"))
    for name in sidecars:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Refused("the graph refers to data outside its folder: %s" % name)
        source, target = graph.parent / name, folder / name
        if not source.is_file():
            raise Refused("external data file %s is missing" % source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(source), str(target))


def signature(session):
    """Inputs and outputs: name, Triton type, shape with -1 for dynamic."""

    def tensors(values):
        return [
            {
                "name": value.name,
                "dtype": TYPES.get(value.type, value.type),
                "shape": [d if isinstance(d, int) and d > 0 else -1 for d in value.shape],
            }
            for value in values
        ]

    return {"inputs": tensors(session.get_inputs()), "outputs": tensors(session.get_outputs())}


def comparable(found):
    """ONNX Runtime may fix an output dimension that the file leaves open: compare inputs whole,
    outputs by name, type and rank."""
    outputs = [[o["name"], o["dtype"], len(o["shape"])] for o in found["outputs"]]
    return {"inputs": found["inputs"], "outputs": outputs}


def sample(spec, rng):
    """Seeded values of one input: normal numbers, ones for integers and booleans."""
    import numpy as np

    dtype = NUMPY.get(spec["dtype"], spec["dtype"].lower())
    if spec["dtype"].startswith("FP"):
        return rng.standard_normal(spec["shape"]).astype(dtype)
    return np.ones(spec["shape"], dtype)


def try_out(session, wanted, folder):
    """Run the made-up request and save its inputs. Returns finite outputs' shapes."""
    import numpy as np

    rng = np.random.default_rng(1)
    feed = {}
    for index, spec in enumerate(wanted):
        if spec["dtype"] == "BYTES":
            feed[spec["name"]] = np.full(spec["shape"], "sample", object)
            continue
        feed[spec["name"]] = sample(spec, rng)
        folder.mkdir(parents=True, exist_ok=True)
        sent = NUMPY.get(spec["sent"], spec["sent"].lower())
        np.save(str(folder / ("%d.npy" % index)), feed[spec["name"]].astype(sent))
    shapes = {s["name"]: s["graph_shape"] for s in wanted}
    feed = {name: value.reshape(shapes[name]) for name, value in feed.items()}
    try:
        results, again = session.run(None, feed), session.run(None, feed)
    # ONNX Runtime's exception classes differ by version; any of them means the same here.
    except Exception as error:
        raise Refused(
            "the graph does not run with made-up inputs of shapes %s (%s): "
            "add a [[verify]] case with an input that it takes"
            % (json.dumps(shapes), str(error).splitlines()[0])
        ) from error
    save_answers(results, again, folder)
    return [list(np.shape(result)) for result in results]


def save_answers(results, again, folder):
    """Save each floating-point output as ``answer-<index>.npy``; without values where the graph
    answers the same request in two ways, or with something that is not finite."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for index, (one, two) in enumerate(zip(results, again, strict=True)):
        value = np.asarray(one)
        if value.dtype.kind != "f":
            continue
        same = np.array_equal(value, two) and np.isfinite(value).all()
        kept = value.astype(np.float64 if value.itemsize > 4 else np.float32)
        np.save(str(folder / ("answer-%d.npy" % index)), kept if same else kept.ravel()[:0])


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("." + path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.chmod(0o600)
    partial.replace(path)


def publish(scratch, folder):
    """Move every file into place, the graph last: it never stands without its data."""
    files = sorted(
        (p for p in scratch.rglob("*") if p.is_file()), key=lambda p: p.name == "model.onnx"
    )
    for path in files:
        target = folder / path.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=Path, required=True, help="a .onnx file, or its folder")
    parser.add_argument("--sidecar", action="append", default=[], help="external data, relative")
    parser.add_argument("--into", type=Path, required=True, help="the model's version folder")
    parser.add_argument("--signature", type=Path, required=True, help="predicted, as JSON")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--samples", type=Path, help="folder for the inputs of a made-up request")
    return parser.parse_args(argv)


def run(options, scratch):
    import onnxruntime

    graph = find(options.graph)
    progress(0.1, "copying %s" % graph.name)
    copy(graph, options.sidecar, scratch)
    progress(0.5, "opening it in ONNX Runtime %s" % onnxruntime.__version__)
    try:
        session = onnxruntime.InferenceSession(
            str(scratch / "model.onnx"), providers=["CPUExecutionProvider"]
        )
    # As above: the classes differ by version.
    except Exception as error:
        raise Refused("ONNX Runtime does not load the graph: %s" % error) from error
    found = signature(session)
    predicted = json.loads(options.signature.read_text(encoding="utf-8"))
    if comparable(found) != comparable(predicted):
        raise Refused(
            "the graph is not the one that the plan predicted: %s instead of %s"
            % (json.dumps(comparable(found)), json.dumps(comparable(predicted)))
        )
    report = {"signature": found, "onnxruntime": onnxruntime.__version__}
    if options.samples:
        progress(0.8, "running a made-up request")
        report["output_shapes"] = try_out(session, predicted["sample"], options.samples)
    del session
    publish(scratch, options.into)
    write_json(options.report, report)
    progress(1.0, "the graph is in the repository")


def in_scratch(run, options, prefix):
    """The exit code of `run(options, scratch)`: 1 with the reason for `Refused`, and for a disk that is
    full or a file that cannot be read. `scratch` is a new folder below `options.into`, on the
    repository's own file system, so that publishing is a rename; those of killed runs are removed."""
    options.into.mkdir(parents=True, exist_ok=True)
    for left in options.into.glob("%s*" % prefix):
        shutil.rmtree(str(left), ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=str(options.into)))
    try:
        run(options, scratch)
    except (Refused, OSError) as error:
        print("[tritondeck] error: %s" % error, file=sys.stderr, flush=True)
        return 1
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)
    return 0


def main(argv=None):
    return in_scratch(run, arguments(argv), ".graph-")


if __name__ == "__main__":
    sys.exit(main())
