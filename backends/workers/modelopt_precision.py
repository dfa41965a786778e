"""Rewrite an ONNX graph for a lower precision with ModelOpt, and say what that changed.

Runs in the `modelopt` environment on the CPU, beside `onnx_to_repository.py`, whose parts it uses;
imports nothing of tritondeck, Python 3.10 syntax. ``fp16`` and ``bf16`` are AutoCast, ``int8`` is
post-training quantisation with QuantizeLinear and DequantizeLinear nodes. Inputs and outputs keep
their names and types. Original and result then run in ONNX Runtime on the same inputs: for each
output the largest difference, and the 2-norm of the difference as a part of the output's own.
Exit codes: 0 published, 1 refused (the last line says why), 2 wrong usage.
"""

import argparse
import json
import sys
import zipfile
from pathlib import Path

from onnx_to_repository import (
    Refused,
    copy,
    find,
    in_scratch,
    progress,
    publish,
    sample,
    write_json,
)

COMPARED = 32
"""Samples that original and result are compared on."""
MADE_UP = 8
EXTERNAL = 3 << 29
"""Bytes from which weights stand in a file of their own; a graph file ends at 2 GiB."""


def calibration(options, wanted):
    """Input arrays by name, samples along the first axis, and whether they were made up."""
    import numpy as np

    if not options.calibration:
        rng = np.random.default_rng(1)
        rows = max([MADE_UP, *(int(s.rsplit(":", 1)[1].split("x")[0]) for s in options.shape)])
        return {spec["name"]: sample(repeated(spec, rows), rng) for spec in wanted}, True
    try:
        loaded = np.load(str(options.calibration), allow_pickle=False)
        found = (
            {name: loaded[name] for name in loaded.files}
            if hasattr(loaded, "files")
            else {wanted[0]["name"]: loaded}
        )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refused("cannot read the calibration data: %s" % error) from error
    names = [spec["name"] for spec in wanted]
    if sorted(found) != sorted(names):
        raise Refused(
            "the calibration data has %s, the graph's inputs are %s"
            % (", ".join(sorted(found)) or "nothing", ", ".join(names))
        )
    counts = {len(value) if value.ndim else 0 for value in found.values()}
    if len(counts) != 1 or counts == {0}:
        raise Refused("the inputs of the calibration data differ in their number of samples")
    types = {spec["name"]: sample(spec, np.random.default_rng(0)).dtype for spec in wanted}
    for name, value in found.items():
        if value.dtype != types[name]:
            raise Refused(
                "%s is %s in the calibration data, not %s" % (name, value.dtype, types[name])
            )
    return found, False


def repeated(spec, rows):
    """`spec` with room for several samples where its first dimension is open."""
    shape = list(spec["graph_shape"])
    return dict(spec, shape=[rows, *shape[1:]] if spec["batched"] else shape)


def convert(options, source, target, feeds, wanted):
    """Write the rewritten graph to `target`; ModelOpt's own exceptions pass through."""
    import numpy as np
    import onnx

    data = source.with_name("calibration.npz")
    np.savez(str(data), **feeds)
    if options.precision == "int8":
        from modelopt.onnx.quantization import quantize

        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data=feeds,
            calibration_method=options.method,
            calibration_shapes=batches(options.shape, feeds),
            calibration_eps=["cpu"],
            high_precision_dtype=options.rest,
            nodes_to_exclude=options.keep or None,
            output_path=str(target),
            use_external_data_format=source.stat().st_size + sidecars(source) > EXTERNAL,
            log_level="WARNING",
        )
        return
    from modelopt.onnx.autocast import convert_to_mixed_precision

    model = convert_to_mixed_precision(
        str(source),
        low_precision_type=options.precision,
        nodes_to_exclude=options.keep or None,
        keep_io_types=True,
        calibration_data=str(data),
        providers=["cpu"],
    )
    large = model.ByteSize() > EXTERNAL
    extra = {"all_tensors_to_one_file": True, "location": "model.onnx.data"} if large else {}
    onnx.save(model, str(target), save_as_external_data=large, **extra)


def batches(shapes, feeds):
    """What ModelOpt runs at once, of as many samples as there are at most. It leaves out products of
    a single row, so the batch must be one that is served; None where no dimension is open."""
    count = len(next(iter(feeds.values())))
    found = []
    for name, sizes in (shape.rsplit(":", 1) for shape in shapes):
        first, _, rest = sizes.partition("x")
        found.append("%s:%s" % (name, "x".join(filter(None, (str(min(int(first), count)), rest)))))
    return ",".join(found) or None


def sidecars(graph):
    return sum(p.stat().st_size for p in graph.parent.iterdir() if p.is_file() and p != graph)


def outputs(graph, feeds, wanted):
    """Each output over the first samples, a request at a time; None where ONNX Runtime has no
    kernels for the graph's types, with why."""
    import numpy as np
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    # ONNX Runtime's exception classes differ by version.
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return None, str(error).splitlines()[0]
        raise Refused("ONNX Runtime does not load the rewritten graph: %s" % error) from error
    names = [value.name for value in session.get_outputs()]
    sizes = {s["name"]: s["graph_shape"][0] if s["graph_shape"] else 0 for s in wanted}
    count = min(len(next(iter(feeds.values()))) // max(1, next(iter(sizes.values()))), COMPARED)
    rows = []
    for index in range(max(1, count)):
        feed = {
            name: value[index * sizes[name] : (index + 1) * sizes[name]] if sizes[name] else value
            for name, value in feeds.items()
        }
        rows.append(session.run(names, feed))
    return {name: [np.asarray(row[i]) for row in rows] for i, name in enumerate(names)}, ""


def differences(before, after):
    """For each numeric output: largest difference, relative 2-norm, and how often the largest value
    of the last axis stands at the same place."""
    import numpy as np

    found = {}
    for name, rows in before.items():
        one = [np.asarray(row, dtype=np.float64) for row in rows if row.dtype.kind in "fiub"]
        two = [np.asarray(row, dtype=np.float64) for row in after[name] if row.dtype.kind in "fiub"]
        if not one:
            continue
        if [a.shape for a in one] != [b.shape for b in two]:
            raise Refused("%s has another shape in the rewritten graph" % name)
        gaps = [b - a for a, b in zip(one, two, strict=False)]
        norm = float(np.sqrt(sum(np.sum(a * a) for a in one)))
        gap = float(np.sqrt(sum(np.sum(g * g) for g in gaps)))
        if not np.isfinite(gap):
            raise Refused("%s has values that are not finite in the rewritten graph" % name)
        places = [
            (a.argmax(-1) == b.argmax(-1)).mean()
            for a, b in zip(one, two, strict=False)
            if a.ndim and a.size
        ]
        found[name] = {
            "max_abs_diff": max(float(np.max(np.abs(g))) if g.size else 0.0 for g in gaps),
            "largest": max(float(np.max(np.abs(a))) if a.size else 0.0 for a in one),
            "relative": gap / norm if norm else gap,
            "same_place": float(np.mean(places)) if places else 1.0,
        }
    return found


def kinds(graph):
    """How many nodes of each type a graph has."""
    import onnx

    found = {}
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return dict(sorted(found.items()))


def rewritten(options, source, target, feeds, wanted):
    """Rewrite the graph; how many nodes of each type the result has."""
    try:
        convert(options, source, target, feeds, wanted)
    # A foreign library over a foreign graph: its words are the reason.
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else ""
        raise Refused(
            "ModelOpt does not rewrite the graph: %s: %s" % (type(error).__name__, said)
        ) from error
    if not target.is_file():
        raise Refused("ModelOpt left the graph as it is: it found nothing to rewrite")
    made = kinds(target)
    if options.precision == "int8" and "QuantizeLinear" not in made:
        raise Refused(
            "ModelOpt quantised nothing: the graph's matrices and convolutions are too small, or kept"
        )
    return made


def run(options, scratch):
    import modelopt
    import onnxruntime

    before, after = scratch / "before", scratch / "after"
    before.mkdir()
    after.mkdir()
    copy(find(options.graph), options.sidecar, before)
    wanted = json.loads(options.signature.read_text(encoding="utf-8"))["sample"]
    feeds, made_up = calibration(options, wanted)
    source, target = before / "model.onnx", after / "model.onnx"
    progress(0.1, "running the graph as it is")
    reference, why = outputs(source, feeds, wanted)
    if reference is None:
        raise Refused("ONNX Runtime does not run the graph on the CPU: %s" % why)
    progress(
        0.3, "rewriting it for %s with ModelOpt %s" % (options.precision, modelopt.__version__)
    )
    made = rewritten(options, source, target, feeds, wanted)
    progress(0.8, "comparing")
    result, why = outputs(target, feeds, wanted)
    report = {
        "precision": options.precision,
        "modelopt": modelopt.__version__,
        "onnxruntime": onnxruntime.__version__,
        "calibration": "made up" if made_up else str(options.calibration),
        "samples": len(next(iter(feeds.values()))),
        "bytes_before": source.stat().st_size,
        "bytes_after": target.stat().st_size,
        "nodes": made,
        "compared": result is not None,
        "why_not": why,
    }
    if result is not None:
        found = differences(reference, result)
        report["outputs"] = found
        report["relative"] = max((one["relative"] for one in found.values()), default=0.0)
        if report["relative"] > options.limit:
            write_json(options.report, report)
            raise Refused(
                "the rewritten graph differs by %.3g of an output's norm, %g is allowed: keep nodes "
                "in FP32, calibrate with real data, or allow more"
                % (report["relative"], options.limit)
            )
    publish(after, options.into)
    write_json(options.report, report)
    progress(1.0, "the graph is rewritten")


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--sidecar", action="append", default=[], help="external data, relative")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--signature", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--precision", choices=("fp16", "bf16", "int8"), required=True)
    parser.add_argument("--rest", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument("--method", choices=("entropy", "max"), default="entropy")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument(
        "--shape", action="append", default=[], help="NAME:4x64 of what is calibrated at once"
    )
    parser.add_argument("--keep", action="append", default=[], help="nodes to leave, as patterns")
    parser.add_argument("--limit", type=float, required=True)
    return parser.parse_args(argv)


def main(argv=None):
    return in_scratch(run, arguments(argv), ".precision-")


if __name__ == "__main__":
    sys.exit(main())
