"""docs/seeds.md: every parameter of the guides has an option that exists, or a reason why it has none."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from backends import registry
from console import cli
from console.desk import options
from console.planning.deployment import Deployment
from console.planning.server import ServerSection

PAGE = Path(__file__).parents[2] / "docs" / "seeds.md"
ROW = re.compile(r"^\| (?P<name>[^|]*?) \| ?(?P<where>[^|]*?) ?\| ?(?P<words>[^|]*?) ?\|$", re.M)
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [m for m in ROW.finditer(TEXT) if m["name"] not in ("parameter", "---")]

SHOWN = {
    "ONNX": "from_pretrained(model_name), model.eval(), model.to('cuda'), export('model.onnx'), "
    "dynamic_axes, check_trace, name, platform, max_batch_size, input, output, --gpus all, "
    "-p 8000:8000, -p 8001:8001, -p 8002:8002, --model-repository, --log-verbose=1, "
    "tritonclient.http, Hugging Face token",
    "TensorRT-LLM and vLLM by NeMo's scripts": "deploy_triton.py --nemo_checkpoint, "
    "deploy_triton.py --triton_model_name, deploy_triton.py --triton_model_repository, "
    "deploy_triton.py --model_type, deploy_vllm.py --nemo_checkpoint, "
    "deploy_vllm.py --triton_model_name, deploy_vllm.py --triton_model_repository, "
    "deploy_vllm.py --model_type",
    "deploy_triton.py": "--nemo_checkpoint, --model_type, --triton_model_name, "
    "--triton_model_version, --triton_port, --triton_http_address, --triton_model_repository, "
    "--tensor_parallelism_size, --pipeline_parallelism_size, --dtype, --max_input_len, "
    "--max_output_len, --max_batch_size, --max_num_tokens, --opt_num_tokens, "
    "--ptuning_nemo_checkpoint, --task_ids, --max_prompt_embedding_table_size, --lora_ckpt, "
    "--use_lora_plugin, --lora_target_modules, --max_lora_rank, --no_paged_kv_cache, "
    "--disable_remove_input_padding, --use_parallel_embedding, --export_fp8_quantized, "
    "--use_fp8_kv_cache, --shm-size=4g, HF_TOKEN, query.py -mn, query.py -p, query.py -mol",
    "The Python interface": "TensorRTLLM(model_dir), export(nemo_checkpoint_path), "
    "export(model_type), export(tensor_parallelism_size), export(fp8_quantized), "
    "export(fp8_kvcache), forward(max_output_token), forward(top_k), forward(top_p), "
    "forward(temperature), DeployPyTriton(model), DeployPyTriton(triton_model_name), "
    "DeployPyTriton(http_port)",
    "trtllm-build of a .qnemo": "--checkpoint_dir, --output_dir, --gemm_plugin fp8, "
    "--max_batch_size, --max_input_len, --max_seq_len, --workers",
    "multimodal/deploy_triton.py": "--modality, --visual_checkpoint, --llm_checkpoint, --model_type, "
    "--llm_model_type, --triton_model_name, --triton_model_version, --triton_port, "
    "--triton_http_address, --triton_model_repository, --num_gpus, --dtype, --max_input_len, "
    "--max_output_len, --max_batch_size, --max_multimodal_len, --vision_max_batch_size, "
    "neva_export.py, skip the export, --shm-size=4g, HF_TOKEN, SALM: perception model, "
    "SALM: merge LoRA weights",
    "multimodal/query.py": "--url, --model_name, --model_type, --input_text, --input_media, "
    "<image>\\n before the text",
    "The Python interface of multimodal models": "TensorRTMMExporter(model_dir), "
    "TensorRTMMExporter(modality), export(visual_checkpoint_path), export(model_type), "
    "export(llm_model_type), export(tensor_parallel_size), forward(max_output_token), "
    "forward(top_k), forward(top_p), forward(temperature), DeployPyTriton(triton_model_name), "
    "DeployPyTriton(port), NemoQueryMultimodal.query",
    "003: a language model with the TensorRT-LLM backend": "convert_checkpoint.py, --model_dir, "
    "--output_dir, --dtype, --tp_size, --pp_size, fill_template.py, "
    "launch_triton_server.py --model_repo, quantisation, in-flight batching, paged attention, "
    "speculative decoding, multi-GPU, multi-node",
    "CLIP, MiniLM and the mock databases": "vision_encoder.py, text_encoder.py, "
    "llava_ensemble/config.pbtxt, llava_llm_quantized_engine, mock-mongo.py, mock-vector.py",
    "004: PyTriton with an OpenAI-compatible server": "nemo_checkpoint, max_input_len, "
    "max_batch_size, server_port, num_gpus, tensor_parallelism_size, pipeline_parallelism_size, "
    "num_nodes, /v1/completions, /v1/chat/completions, /health, CUDA graphs, flash attention, "
    "KV cache, gradient checkpointing, mixed precision, log_level, port in use, GPU memory",
}
"""What each guide shows, by the heading of its table."""


def section(heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S)
    assert found, heading
    return found[1]


@pytest.mark.parametrize("heading", SHOWN)
def test_every_parameter_that_a_guide_shows_stands_there(heading: str) -> None:
    told = {row["name"].replace("`", "") for row in ROW.finditer(section(heading))}
    assert [name for name in SHOWN[heading].split(", ") if name not in told] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_what_carries_a_parameter_exists_or_a_reason_is_given(row: re.Match[str]) -> None:
    places = re.findall(r"`([^`]+)`", row["where"])
    if not places:
        assert not row["where"]
        assert len(row["words"].split()) >= 5, row["name"]
    for place in places:
        assert exists(place), place


def exists(place: str) -> bool:
    if place.startswith("tritondeck "):
        cli._parsed(shlex.split(place)[1:])
        return True
    if found := re.fullmatch(r"\[(\w+)\] (\w+)", place):
        section, key = found.groups()
        assert section in ("checkpoints", "deployment", "server")
        if section == "checkpoints":
            return any(role.name == key for n in registry.names() for role in registry.get(n).roles)
        return key in (ServerSection if section == "server" else Deployment).model_fields
    backend, option = place.split(": ")
    return option in {field.name for field in options.fields(registry.get(backend).Options)}


@pytest.mark.parametrize(
    ("heading", "backend"),
    [
        ("deploy_triton.py", "nemo-tensorrt-llm"),
        ("multimodal/deploy_triton.py", "nemo-multimodal"),
    ],
)
def test_a_flag_of_nemos_script_is_carried_by_the_option_that_says_so(
    heading: str, backend: str
) -> None:
    flags = {f.name: f.flag for f in options.fields(registry.get(backend).Options)}
    for row in ROW.finditer(section(heading)):
        for option in re.findall(rf"`{backend}: (\w+)`", row["where"]):
            name = row["name"].strip("`")
            assert not name.startswith("--") or flags[option] in ("", name), name
