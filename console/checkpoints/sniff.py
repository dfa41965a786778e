"""What a file is, from its first 512 bytes."""

from __future__ import annotations

from enum import StrEnum

HEAD = 512


class Kind(StrEnum):
    """What the first bytes say, before any format is believed."""

    EMPTY = "empty"
    TAR = "tar"
    GZIP = "gzip"
    ZIP = "zip"
    PICKLE = "pickle"
    HTML = "html"
    LFS = "git-lfs"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    PLAN = "plan"
    GGUF = "gguf"
    UNKNOWN = "unknown"


def sniff(head: bytes, suffix: str = "") -> Kind:
    """Tell `head` (the first 512 bytes) apart; `suffix` only breaks the tie for ONNX, which has no
    magic number: its first field is nearly always ``ir_version``."""
    if not head:
        return Kind.EMPTY
    if head.startswith(b"\x1f\x8b"):
        return Kind.GZIP
    if head[257:262] == b"ustar":
        return Kind.TAR
    if head.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if head.startswith(b"ftrt"):
        return Kind.PLAN
    if head.startswith(b"GGUF"):
        return Kind.GGUF
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return Kind.LFS
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**32:
        return Kind.SAFETENSORS
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if stripped[:1] == b"<":
        return Kind.HTML
    if suffix == ".onnx" or (head[:1] == b"\x08" and head[1:3] in _ONNX_STARTS):
        return Kind.ONNX
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return Kind.PICKLE
    return Kind.UNKNOWN


# ir_version 1…15 followed by producer_name (0x12) or graph (0x3a), as every exporter writes it.
_ONNX_STARTS = {
    bytes([version, tag]) for version in range(1, 16) for tag in (0x12, 0x1A, 0x22, 0x3A)
}

PROBLEMS = {
    Kind.EMPTY: ("is empty", "copy or download it again"),
    Kind.HTML: (
        "is a web page, not a checkpoint",
        "the download needs a login or a direct link; download it again",
    ),
    Kind.LFS: (
        "is a Git LFS pointer, not the checkpoint itself",
        "fetch it with: git lfs pull",
    ),
    Kind.ZIP: (
        "is a PyTorch or zip archive, not a checkpoint that can be deployed",
        "a Lightning .ckpt is turned into a .nemo by NeMo's own save_to",
    ),
    Kind.PICKLE: (
        "is a Python pickle, which is never loaded here",
        "convert it to safetensors, .nemo or ONNX first",
    ),
    Kind.GGUF: (
        "is a GGUF file of llama.cpp, which no Triton backend loads",
        "take the Hugging Face form of the same model",
    ),
    Kind.UNKNOWN: (
        "is not a checkpoint that is known here",
        "known are .nemo, NeMo 2.0 folders, .qnemo, Hugging Face folders, .onnx and TensorRT plans",
    ),
}
"""Kind to what it is in words, and what to do."""
TRAINING = (
    "is a training checkpoint (Lightning .ckpt): optimizer state and pickled objects, not a model",
    "write a .nemo from it with the model's load_from_checkpoint and save_to, in the code that trained it",
)
"""What is said of a `.ckpt`."""
