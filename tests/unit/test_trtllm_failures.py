"""What TensorRT-LLM's own error lines become: a sentence with cause and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.runs.reasons import of_builder
from console.triton import logs

LOAD = (
    "E1121 00:00:00.000000 9 model_lifecycle.cc:1] \"failed to load 'm' version 1: Internal: {}\""
)
LINES = {
    "trtllm-ranks": (
        "[TensorRT-LLM][ERROR] Assertion failed: With communicationMode kLEADER, MPI worldSize is "
        "expected to be equal to tp*pp when participantIds are not specified",
        "another number of ranks",
    ),
    "trtllm-template": (
        "unable to find backend library for backend '${triton_backend}', try specifying runtime on "
        "the model configuration.",
        "placeholder triton_backend",
    ),
    "trtllm-engine-config": (
        "[json.exception.out_of_range.403] key 'use_context_fmha_for_generation' not found",
        "of another TensorRT-LLM",
    ),
    "trtllm-engine-folder": (
        "[json.exception.parse_error.101] parse error at line 1, column 1: syntax error while parsing "
        "value - unexpected end of input",
        "finds no engine",
    ),
    "trtllm-cache": (
        "[TensorRT-LLM][ERROR] Assertion failed: maxTokensInPagedKvCache (29184) must be large enough "
        "to process at least 1 sequence to completion (i.e. must be larger than beam_width (1) * "
        "tokensPerBlock (128) * maxBlocksPerSeq (272))",
        "holds 29184 tokens",
    ),
    "trtllm-memory": (
        "[TensorRT-LLM][ERROR] CUDA runtime error in ::cudaMallocAsync(ptr, n, mCudaStream->get()): "
        "out of memory",
        "no memory left",
    ),
    "trtllm-memory-pools": (
        "CUDA runtime error in cudaDeviceGetDefaultMemPool(&memPool, device): operation not supported",
        "memory pools",
    ),
    "trtllm-streaming": (
        "TritonModelException: Streaming is only supported if model is deployed using decoupled mode.",
        "answers once",
    ),
    "trtllm-decoupled": (
        "HTTP end point doesn't support models with decoupled transaction policy",
        "asked by /infer",
    ),
    "trtllm-bindings": (
        "ModuleNotFoundError: No module named 'tensorrt_llm.bindings'",
        "own library",
    ),
    "trtllm-build-flag": (
        "trtllm-build: error: unrecognized arguments: --max_output_len 256",
        "trtllm-build here has no --max_output_len",
    ),
    "trtllm-torch-memory": ("torch.OutOfMemoryError: CUDA out of memory.", "in PyTorch"),
    "trtllm-source": ('NotImplementedError("No source model path specified!")', "no checkpoint"),
    "trtllm-openai": (
        "ImportError: cannot import name 'PartReasoningText' from 'openai.types.responses'",
        "no PartReasoningText",
    ),
    "tensorrt-version": (
        "The engine plan file is not compatible with this version of TensorRT, expecting library "
        "version 9.2.0.5 got 9.3.0.1, please rebuild.",
        "this server has 9.2.0.5",
    ),
    "tensorrt-device": (
        "The engine plan file is generated on an incompatible device, expecting compute 8.0 got "
        "compute 8.9, please rebuild.",
        "compute capability 8.9",
    ),
}


@pytest.mark.parametrize("identifier", LINES)
def test_a_line_of_a_server_is_told_in_words(identifier: str) -> None:
    line, words = LINES[identifier]
    (found,) = logs.explain([LOAD.format(line)])
    assert found.id == identifier and words in found.what
    assert found.why and found.fix


@pytest.mark.parametrize("identifier", [name for name in LINES if name.startswith("trtllm-")])
def test_a_line_of_a_build_is_why_the_step_failed(identifier: str, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    line, words = LINES[identifier]
    log.write_text(f"[TensorRT-LLM] TensorRT-LLM version: 1.2.1\n{line}\nmore\n")
    found = of_builder(log)
    assert found is not None and words in found.title and found.fix
