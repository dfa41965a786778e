"""What a Python pickle would import and call, found without loading it.

Loading a pickle imports every module that it names and calls what it finds there. The scan walks the
opcodes with `pickletools`, which executes nothing, and collects those names. A name that the opcodes
do not spell out directly (put together on the pickle's stack) counts as unsafe: no tool that saves
weights writes such a pickle.
"""

from __future__ import annotations

import io
import pickletools
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from console.checkpoints.model import Risk, Severity
from console.checkpoints.source import Source
from console.text import clean

BYTES_CAP = 16 << 20
"""Bytes of one pickle that are scanned."""
SECONDS = 0.5
"""Processor time that the scan of one checkpoint may take. Not time of the clock: a process that
waits for its turn on a busy machine would call a harmful file "unseen"."""
_TURN = 512
"""Opcodes that are walked whatever the time is, and between two looks at it; some 0.3 ms."""
DIRECTORY_CAP = 32 << 20
"""Bytes of a zip directory; 100,000 entries have some 8 MB."""
MAGIC = 0x1950A86A20F9469CFC6C
LEGACY = 5
"""torch's form from before 1.6: this number, then four more pickles that are loaded, then bytes."""
HIDDEN = "(a name that is put together while loading)"

_STORAGES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
_STORAGE_DTYPES = {
    "DoubleStorage": "fp64", "FloatStorage": "fp32", "HalfStorage": "fp16",
    "BFloat16Storage": "bf16", "CharStorage": "int8", "ByteStorage": "uint8",
}  # fmt: skip
# What saving tensors needs, and what does nothing but hold data. `torch.storage._load_from_bytes`
# unpickles again and is not among them.
_SAFE = re.compile(
    r"""collections\ (OrderedDict|defaultdict|deque|Counter)
      | (builtins|__builtin__)\ (set|frozenset|dict|list|tuple|int|float|complex|bool|str|bytes|
            bytearray|slice|range|object)
      | copy_reg\ _reconstructor | copyreg\ _reconstructor
      | _codecs\ encode
      | datetime\ (datetime|date|time|timedelta|timezone)
      | pathlib\ (PosixPath|PurePosixPath|Path)
      | argparse\ Namespace | types\ SimpleNamespace
      | torch\ (Size|device|dtype|Tensor|[A-Za-z0-9]+Storage|(b?float|u?int|complex|qu?int|bool)\w*|
            double|half|long|short|strided|sparse_coo|per_tensor_affine|per_channel_affine)
      | torch\.storage\ (Typed|Untyped|_Typed|_Untyped)Storage
      | torch\._utils\ _rebuild_(tensor(_v2|_v3)?|parameter(_with_state)?|qtensor|sparse_tensor|
            meta_tensor_no_storage|device_tensor_from_numpy|device_tensor_from_cpu_tensor)
      | torch\._tensor\ _rebuild_from_type_v2
      | torch\.serialization\ _get_layout
      | torch\.nn\.parameter\ (Parameter|UninitializedParameter|Buffer)
      | torch\.distributed\.checkpoint\.metadata\ \w+
      | torch\.distributed\.checkpoint\.filesystem\ _StorageInfo
      | numpy\ (ndarray|dtype|u?int\d+|float\d+|bool_?)
      | numpy\.(core|_core)\.multiarray\ (_reconstruct|scalar)
      | numpy\.(core|_core)\.numeric\ _frombuffer
      | numpy\.dtypes\ \w+DType""",
    re.VERBOSE,
)
_DANGEROUS = frozenset(
    {
        *(
            "os",
            "posix",
            "nt",
            "sys",
            "subprocess",
            "builtins",
            "__builtin__",
            "importlib",
            "runpy",
        ),
        *(
            "shutil",
            "socket",
            "pty",
            "ctypes",
            "webbrowser",
            "operator",
            "functools",
            "code",
            "codeop",
        ),
        *(
            "pickle",
            "_pickle",
            "dill",
            "cloudpickle",
            "marshal",
            "types",
            "inspect",
            "imp",
            "pkgutil",
        ),
        *("pip", "urllib", "requests", "http", "asyncio", "multiprocessing", "signal", "platform"),
        *(
            "tempfile",
            "timeit",
            "pdb",
            "bdb",
            "doctest",
            "commands",
            "popen2",
            "pydoc",
            "nose",
            HIDDEN,
        ),
    }
)
"""First parts of modules that no checkpoint needs and that run what they are told to."""
_STRINGS = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
     "BINUNICODE8"}
)  # fmt: skip
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})


@dataclass(frozen=True, slots=True)
class Scan:
    """What some pickles name. `whole` is False when a cap ended the scan first."""

    names: frozenset[str] = frozenset()
    """``module attribute`` pairs"""
    calls: bool = False
    whole: bool = True
    tensor_bytes: int = 0
    """Bytes of the tensors' own files beside the pickles in a zip."""
    scripted: bool = False
    """A TorchScript archive: it carries code of its own."""
    pickles: int = 0

    @property
    def unsafe(self) -> tuple[str, ...]:
        return tuple(sorted(n for n in self.names if not _SAFE.fullmatch(n)))

    @property
    def dtype(self) -> str:
        """The dtype of most kinds of storage that are named, where there is only one of them."""
        kinds = self._storages()
        return _STORAGE_DTYPES.get(kinds[0], "") if len(kinds) == 1 else ""

    @property
    def parameters(self) -> int | None:
        """Elements of all tensors; None when they differ in size or lie elsewhere."""
        kinds = self._storages()
        return self.tensor_bytes // _STORAGES[kinds[0]] or None if len(kinds) == 1 else None

    def _storages(self) -> list[str]:
        """Kinds of storage; empty where some are untyped (fp8), whose elements nobody names."""
        names = {n.rpartition(" ")[2] for n in self.names if n.endswith("Storage")}
        if not names <= _STORAGES.keys():
            return []
        # Counters of batch normalisation are single integers beside millions of weights.
        return sorted(names & (_STORAGES.keys() - {"LongStorage", "IntStorage", "BoolStorage"}))


def scan_pickle(content: bytes, deadline: float) -> Scan:
    """Walk the opcodes of one pickle, or of several after each other. Never raises."""
    walk = _Walk()
    stream = io.BytesIO(content)
    whole = True
    pickles = 0
    while pickles < 8 and stream.tell() < len(content):
        try:
            done = walk.run(stream, deadline)
        except (ValueError, IndexError, KeyError, OverflowError, UnicodeError, AttributeError):
            # pickletools' words for what is no opcode: damage, or the bytes after the pickles.
            whole = pickles >= (LEGACY if walk.legacy else 1)
            break
        pickles += 1
        if not done:
            whole = False
            break
    return Scan(frozenset(walk.names), walk.calls, whole, pickles=pickles)


class _Walk:
    """Opcodes in order. The top of the stack is known only right after a string was pushed."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.calls = False
        self.legacy = False

    def run(self, stream: io.BytesIO, deadline: float) -> bool:
        """One pickle to its end; False when the time was over before."""
        last: tuple[str | None, str | None] = (None, None)
        memo: dict[int, str | None] = {}
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if name in _STRINGS:
                last = (last[1], str(argument))
            elif name in _GETS:
                last = (last[1], memo.get(int(argument or 0)))
            elif name == "MEMOIZE":
                memo[len(memo)] = last[1]
            elif name in _PUTS:
                memo[int(argument or 0)] = last[1]
            elif name not in {"PROTO", "FRAME"}:
                self.legacy = self.legacy or argument == MAGIC
                self._other(name, argument, last)
                last = (None, None)
            if count % _TURN == _TURN - 1 and time.thread_time() > deadline:
                return False
        return True

    def _other(self, name: str, argument: object, last: tuple[str | None, str | None]) -> None:
        if name == "STACK_GLOBAL":
            module, attribute = last
            known = module is not None and attribute is not None
            self.names.add(f"{module} {attribute}" if known else f"{HIDDEN} ")
        elif name in {"GLOBAL", "INST"}:
            self.names.add(str(argument))
        elif name in {"EXT1", "EXT2", "EXT4"}:
            self.names.add(f"{HIDDEN} ")
        self.calls = self.calls or name in _CALLS


class _Slice(io.RawIOBase):
    """A stretch of a checkpoint as a file, so that a zip inside a tar is read where it lies."""

    def __init__(self, source: Source, offset: int, size: int) -> None:
        self._source, self._offset, self._size = source, offset, size
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the start")
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        size = left if size < 0 else min(size, left)
        if size > DIRECTORY_CAP:
            raise zipfile.BadZipFile(f"it asks for {size} bytes at once")
        content = self._source.read(self._offset + self._at, size)
        self._at += len(content)
        return content


def scan_zip(source: Source, offset: int, size: int, deadline: float) -> Scan | None:
    """Every pickle in the zip archive at that place; None when there is no readable zip."""
    try:
        with zipfile.ZipFile(_Slice(source, offset, size)) as archive:
            return _entries(archive, deadline)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return None  # damaged, encrypted, or of a kind that torch does not read either


def _entries(archive: zipfile.ZipFile, deadline: float) -> Scan:
    found: list[Scan] = []
    tensors = 0
    names = [info.filename for info in archive.infolist()]
    whole = len(set(names)) == len(names)
    for info in archive.infolist():
        if info.filename.endswith(".pkl"):
            with archive.open(info) as file:
                content = file.read(BYTES_CAP)
            found.append(scan_pickle(content, deadline))
            whole = whole and info.file_size <= BYTES_CAP
        elif "/data/" in f"/{info.filename}":
            tensors += info.file_size
    total = merged(found)
    scripted = any("/code/" in f"/{name}" for name in names)
    return Scan(total.names, total.calls, whole and total.whole, tensors, scripted, total.pickles)


def scan(source: Source, offset: int, size: int, deadline: float) -> Scan:
    """A torch file (zip, or the older form) or a bare pickle at that place of a checkpoint."""
    head = source.read(offset, min(4, size))
    if head == b"PK\x03\x04":
        found = scan_zip(source, offset, size, deadline)
        return found or Scan(whole=False)
    if head[:1] == b"\x80":
        return scan_pickle(source.read(offset, min(size, BYTES_CAP)), deadline)
    return Scan(whole=False)


def merged(scans: Iterable[Scan]) -> Scan:
    """What several files name together."""
    found = list(scans)
    return Scan(
        frozenset().union(*(s.names for s in found)),
        any(s.calls for s in found),
        all(s.whole for s in found),
        sum(s.tensor_bytes for s in found),
        any(s.scripted for s in found),
        sum(s.pickles for s in found),
    )


def deadline() -> float:
    """When a scan that starts now has to end (`time.thread_time` of the thread that scans)."""
    return time.thread_time() + SECONDS


def risks(scan: Scan) -> Iterator[Risk]:
    """Danger for names that run commands, a warning for other foreign ones and for what is unseen."""
    groups: Counter[Severity] = Counter()
    shown: dict[Severity, list[str]] = {Severity.DANGER: [], Severity.WARN: []}
    for name in scan.unsafe:
        root = name.split(" ", 1)[0].split(".", 1)[0] if not name.startswith(HIDDEN) else HIDDEN
        severity = Severity.DANGER if root in _DANGEROUS else Severity.WARN
        groups[severity] += 1
        if len(shown[severity]) < 3:
            shown[severity].append(clean(name.strip().replace(" ", "."), cap=80)
                                   if root != HIDDEN else HIDDEN)  # fmt: skip
    if groups[Severity.DANGER]:
        yield Risk(
            "pickle-code",
            Severity.DANGER,
            f"the pickled weights would run code: {_more(shown[Severity.DANGER], groups[Severity.DANGER])}",
            "do not load them; ask their author for safetensors",
        )
    if groups[Severity.WARN]:
        yield Risk(
            "pickle-classes",
            Severity.WARN,
            "the pickled weights name more than tensors: "
            f"{_more(shown[Severity.WARN], groups[Severity.WARN])}",
            "a loader with weights_only refuses them; any other imports and calls them",
        )
    if scan.scripted:
        yield Risk(
            "torchscript", Severity.WARN, "a TorchScript archive, which carries code of its own"
        )
    if not scan.whole:
        yield Risk(
            "pickle-unseen",
            Severity.WARN,
            "not all of the pickled weights could be looked at without loading them",
            "convert them to safetensors, or trust who made them",
        )


def _more(names: list[str], count: int) -> str:
    shown = ", ".join(names)
    return shown if count <= len(names) else f"{shown} and {count - len(names)} more"
