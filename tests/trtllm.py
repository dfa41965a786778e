"""A machine with TensorRT-LLM as far as its plans see it: package, scripts and programs that record what
they are given and leave what the real ones leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from backends.language.trtllm_catalog import catalog

VERSION = "1.2.1"
CONVERTED = """
import json, pathlib, sys
words = sys.argv
with open(RECORD + words[0].rpartition("/")[2], "a") as file:
    file.write(json.dumps(words[1:]) + "\\n")
folder = pathlib.Path(args.output_dir)
folder.mkdir(parents=True)
world = args.tp_size * args.pp_size
(folder / "config.json").write_text(json.dumps({"mapping": {"world_size": world}}))
for rank in range(world):
    (folder / f"rank{rank}.safetensors").write_text("weights")
print("Total time of converting checkpoints: 00:00:01")
"""
BUILT = """
import json, pathlib, sys
words = sys.argv
with open(RECORD + "trtllm-build", "a") as file:
    file.write(json.dumps(words[1:]) + "\\n")
given = json.loads((pathlib.Path(args.checkpoint_dir) / "config.json").read_text())
folder = pathlib.Path(args.output_dir)
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps({"pretrained_config": given}))
for rank in range(given["mapping"]["world_size"]):
    (folder / f"rank{rank}.engine").write_text("engine")
"""


def parser(program: str) -> str:
    """The lines of a script with the flags of the catalog, as upstream declares them."""
    lines = ["import argparse", "parser = argparse.ArgumentParser(allow_abbrev=False)"]
    for name, flag in catalog().flags[program].items():
        if not flag.holds(VERSION):
            continue
        given = f'"{name}", action="store_true"' if flag.switch else f'"{name}"'
        if flag.values:
            given += f", choices={sorted(flag.values)!r}"
        if name in ("--tp_size", "--pp_size", "--workers"):
            given += ", type=int, default=1"
        lines.append(f"parser.add_argument({given})")
    return "\n".join([*lines, "args = parser.parse_args()"])


PLUGINS = ("gpt_attention_plugin", "gemm_plugin", "context_fmha", "remove_input_padding",
           "tokens_per_block", "use_paged_context_fmha")  # fmt: skip


def packages(place: Path, version: str) -> None:
    """What Python knows of the installed packages, below ``site``; importing TensorRT-LLM fails."""
    for name, told in (("tensorrt_llm", version), ("tensorrt", "10.14.1.48")):
        folder = place / "site" / f"{name}-{told}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {told}\n")
    package = place / "site" / "tensorrt_llm"
    options = [line for line in parser("trtllm-build").splitlines() if not plugin(line)]
    texts = {
        "__init__.py": "raise RuntimeError('importing it takes a GPU and half a minute')",
        "commands/build.py": "\n".join(options),
        "plugin/plugin.py": f"cli_plugin_args = {list(PLUGINS)!r}",
    }
    for name, text in texts.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)


def plugin(line: str) -> bool:
    """Whether it declares an option that upstream makes of a name in a list."""
    return any(f'"--{name}"' in line for name in PLUGINS)


def programs(place: Path, families: tuple[str, ...]) -> None:
    """The conversion scripts of `families` below ``examples``, and ``bin/trtllm-build``; each writes the
    words that it got to ``said-NAME``, a line a run."""
    record = repr(str(place / "said-"))
    for family in families:
        script = place / "examples" / catalog().script(family, VERSION)
        script.parent.mkdir(parents=True)
        script.write_text(parser(family) + CONVERTED.replace("RECORD", record))
    build = place / "bin" / "trtllm-build"
    build.parent.mkdir(exist_ok=True)
    text = parser("trtllm-build") + BUILT.replace("RECORD", record)
    build.write_text(f"#!{sys.executable}\n{text}")
    build.chmod(0o755)


def recorded(place: Path, program: str) -> list[list[str]]:
    return [json.loads(line) for line in (place / f"said-{program}").read_text().splitlines()]
