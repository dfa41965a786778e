"""Guards before NeMo opens an archive, and what a fork's archive needs to be opened at all.

A part of the export worker: runs in the `nemo` environment beside `nemo_to_onnx.py`, imports nothing
of tritondeck, Python 3.10 syntax.
"""

import importlib
import importlib.metadata
import inspect
import os
import re
import tarfile

OLDEST_NEMO = (2, 6, 2)  # older ones unpickle weights: code execution
TARGET = re.compile(r"^nemo\.collections\.[\w.]+$")
CONFIG_CAP = 4 << 20
FORK_KEYS = ("multisoftmax", "language_keys", "multilingual")


class Refused(Exception):
    """The checkpoint or the result is not acceptable; the message is for the operator."""


def progress(fraction, message):
    print("[tritondeck] progress %.2f %s" % (fraction, message), flush=True)


def check_archive(path):
    """Refuse archives that show one file to a preview and another to the loader.

    Walks every header: no duplicate names, absolute paths, ``..``, links or devices; the root
    ``target`` must be a class of NeMo's collections, because NeMo imports whatever it names.
    Returns the parsed configuration.
    """
    import yaml

    if not path.is_file():
        raise Refused("no such checkpoint: %s" % path)
    seen, text = set(), None
    try:
        # Mode r|* streams: a header is judged before anything after it is read.
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    raise Refused("the archive has an unsafe member name: %r" % member.name)
                if not (member.isfile() or member.isdir()):
                    raise Refused("the archive has a link or device: %r" % member.name)
                if name in seen:
                    raise Refused("the archive has two members named %r" % name)
                seen.add(name)
                if name == "model_config.yaml":
                    if member.size > CONFIG_CAP:
                        raise Refused("model_config.yaml has %d bytes" % member.size)
                    text = archive.extractfile(member).read()
    except tarfile.TarError as error:
        raise Refused("not a whole .nemo archive (%s): download it again" % error) from error
    if text is None or "model_weights.ckpt" not in seen:
        raise Refused("the archive lacks model_config.yaml or model_weights.ckpt")
    config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    target = str(config.get("target", "")) if isinstance(config, dict) else ""
    if not TARGET.match(target):
        raise Refused("target %r is no class of nemo.collections" % target)
    return config


def check_versions():
    """Versions of what decides the result; refuses a NeMo that executes code of a checkpoint."""
    names = ("nemo_toolkit", "torch", "onnx", "onnxruntime", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    found = tuple(int(part) for part in re.findall(r"\d+", versions["nemo_toolkit"])[:3])
    if found < OLDEST_NEMO:
        raise Refused(
            "NeMo %s loads weights with pickle; 2.6.2 or newer is needed" % versions["nemo_toolkit"]
        )
    return versions


# ------------------------------------------------------------------------------ AI4Bharat's fork


def is_fork(config):
    """Whether AI4Bharat's fork of NeMo wrote this configuration (IndicConformer)."""
    sections = (
        config.get("decoder"),
        config.get("joint"),
        (config.get("aux_ctc") or {}).get("decoder"),
    )
    keyed = any(isinstance(s, dict) and key in s for s in sections for key in FORK_KEYS)
    return keyed or (config.get("tokenizer") or {}).get("type") == "multilingual"


def main_line(config):
    """Rewrite a fork's configuration in place for NeMo itself.

    The tokenizer becomes an aggregate one; every constructor key that this NeMo's class does not
    know is dropped. Returns the dropped keys, dotted.
    """
    tokenizer = config.get("tokenizer") or {}
    if tokenizer.get("type") == "multilingual":
        tokenizer["type"] = "agg"
    dropped = []
    places = ["preprocessor", "spec_augment", "encoder", "decoder", "joint", "aux_ctc.decoder"]
    for place in places:
        section = config
        for key in place.split("."):
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            dropped += ["%s.%s" % (place, key) for key in drop_unknown(section)]
    return dropped


def drop_unknown(section):
    """Remove from a configuration section what its class takes no argument for."""
    target = str(section.get("_target_", ""))
    if not TARGET.match(target):
        return []
    module, _, name = target.rpartition(".")
    accepted = inspect.signature(getattr(importlib.import_module(module), name).__init__).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
        return []
    unknown = [key for key in section if key not in accepted and key != "_target_"]
    for key in unknown:
        del section[key]
    return sorted(unknown)


def saved_weights(path):
    """The tensors of the archive's ``model_weights.ckpt``, on the CPU, without running code."""
    import torch

    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if os.path.normpath(member.name) == "model_weights.ckpt":
                file = archive.extractfile(member)
                return torch.load(file, map_location="cpu", weights_only=True)
    raise Refused("the archive lacks model_weights.ckpt")


def check_weights(model, saved, prefixes):
    """Refuse when a weight that is exported did not come from the checkpoint."""
    import torch

    for name, value in model.state_dict().items():
        if name.startswith(prefixes):
            if name not in saved:
                raise Refused("the checkpoint has no weight %s for this NeMo's model" % name)
            if not torch.equal(value.cpu(), saved[name].to(value.dtype)):
                raise Refused("NeMo did not take the checkpoint's weight %s" % name)
