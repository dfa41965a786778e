#!/usr/bin/env python3
"""Make the spoken-digits checkpoint of the quickstart, from a seed, on one CPU core.

The steps, in order (each is a subcommand; ``--help`` shows its options)::

    corpus    synthesise the training sounds with espeak-ng
    heldout   synthesise sounds whose strings and voices are never in training
    train     train the small Conformer-CTC model (stops by step count)
    pack      write the trained weights as a .nemo file
    evaluate  measure exact-string accuracy (PyTorch, transcribe() or ONNX Runtime)
    fixtures  copy a few held-out sounds that the model gets right with margin

``corpus`` and ``heldout`` need numpy and the espeak-ng program only, so that a test can
make held-out sounds where neither PyTorch nor NeMo is installed. The other steps import
PyTorch and NeMo themselves.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import wave
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE = 16_000
BLANK = len(DIGITS) + 1  # piece 0 is <unk>, pieces 1..10 are the digits, CTC puts blank last

ACCENTS = (
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbcwmd",
    "en-gb-x-gbclan",
    "en-us-nyc",
    "en-029",
)

# A voice is an accent plus a variant. Variants, not accents, are what is held out: every
# accent pronounces some digits differently, so the model has to have heard all of them.
HELDOUT_NAMES = "f3 m4 m7 Andrea Lee Mario adam belinda linda paul quincy zac"
# Left out on both sides: whispers, robots and other effects that people find hard as well.
TRAIN_NAMES = """
    Alex Alicia Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Marco Michael Mike Nguyen
    Storm anika announcer antonio aunty benjamin boris caleb david ed edward edward2 f1 f2 f4 f5
    grandma grandpa gustave iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt3 klatt4
    klatt6 m1 m2 m3 m5 m6 m8 marcelo max michel miguel norbert pablo pedro rob robert sandro
    shelby steph steph2 steph3 travis victor
"""
HELDOUT_VARIANTS = tuple(HELDOUT_NAMES.split())
TRAIN_VARIANTS = tuple(TRAIN_NAMES.split())


@dataclass(frozen=True)
class Utterance:
    """One sound to synthesise: the words and how espeak-ng is to say them."""

    text: str
    accent: str
    variant: str
    speed: int
    pitch: int
    gap: int
    separator: str

    @property
    def voice(self) -> str:
        """The voice name that espeak-ng takes, e.g. ``en-gb+f3``."""
        return f"{self.accent}+{self.variant}" if self.variant else self.accent


# --------------------------------------------------------------------------- what to say


def is_heldout(text: str) -> bool:
    """Say whether a string belongs to the held-out fifth (never used in training).

    Single digits cannot be held out: there are only ten of them and training needs all.
    """
    return " " in text and zlib.crc32(text.encode()) % 5 == 0


def draw_text(rng: random.Random, low: int, high: int, *, heldout: bool) -> str:
    """Draw a digit string of ``low`` to ``high`` words from the wanted side of the split."""
    length = rng.randint(low, high)
    while True:
        words = [rng.choice(DIGITS) for _ in range(length)]
        if length > 1 and rng.random() < 0.15:
            # CTC has to put a blank between equal neighbours; chance alone shows it too few.
            at = rng.randrange(length - 1)
            words[at + 1] = words[at]
        text = " ".join(words)
        if is_heldout(text) == heldout or (heldout and length == 1):
            return text


def draw_utterance(
    rng: random.Random, text: str, accent: str, variants: Sequence[str]
) -> Utterance:
    """Draw a voice and a manner of speaking for one string."""
    return Utterance(
        text=text,
        accent=accent,
        variant=rng.choice(variants),
        speed=rng.randint(120, 200),
        pitch=rng.randint(25, 75),
        gap=rng.choice((0, 1, 3)),
        separator=rng.choice((" ", ", ")),
    )


def training_plan(count: int, seed: int) -> list[Utterance]:
    """List the training utterances: 1 to 6 digits, training strings and voices only."""
    rng = random.Random(seed)
    # The plain voice of each accent counts as a few variants: it is the one users hear most.
    variants = (*TRAIN_VARIANTS, "", "", "", "")
    return [
        draw_utterance(
            rng, draw_text(rng, 1, 6, heldout=False), ACCENTS[index % len(ACCENTS)], variants
        )
        for index in range(count)
    ]


def heldout_plan(count: int, seed: int, low: int, high: int) -> list[Utterance]:
    """List held-out utterances: strings and voice variants that training never uses."""
    installed = installed_variants()
    # An unknown variant would silently become the plain voice, which training has heard.
    variants = [name for name in HELDOUT_VARIANTS if name in installed]
    if len(variants) < 4:
        raise SystemExit(f"espeak-ng has only {variants} of the held-out voices {HELDOUT_VARIANTS}")
    rng = random.Random(seed)
    return [
        draw_utterance(
            rng, draw_text(rng, low, high, heldout=True), ACCENTS[index % len(ACCENTS)], variants
        )
        for index in range(count)
    ]


# ------------------------------------------------------------------------------- sound


def espeak(*arguments: str) -> bytes:
    """Run espeak-ng and return what it writes."""
    try:
        done = subprocess.run(
            ["espeak-ng", *arguments], capture_output=True, check=True, timeout=60
        )
    except FileNotFoundError:
        raise SystemExit("espeak-ng is not installed (Debian: apt-get install espeak-ng)") from None
    return done.stdout


@lru_cache(maxsize=1)
def installed_variants() -> frozenset[str]:
    """Return the voice variants that the installed espeak-ng has."""
    lines = espeak("--voices=variant").decode(errors="replace").splitlines()
    return frozenset(
        word.removeprefix("!v/") for line in lines for word in line.split() if word[:3] == "!v/"
    )


@lru_cache(maxsize=4)
def resampling_filter(source: int, target: int, half: int = 16) -> np.ndarray:
    """Return one windowed-sinc filter per phase, shape (phases, 2 * half)."""
    phases = target // math.gcd(source, target)
    cutoff = 0.94 * min(1.0, target / source)
    offsets = np.arange(1 - half, half + 1)[None, :] - np.arange(phases)[:, None] / phases
    window = np.i0(8.0 * np.sqrt(np.clip(1.0 - (offsets / half) ** 2, 0.0, 1.0))) / np.i0(8.0)
    taps = cutoff * np.sinc(cutoff * offsets) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), dtype=np.float32)


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    """Change the sample rate of a mono float signal (polyphase, numpy only)."""
    if source == target:
        return samples
    factor = math.gcd(source, target)
    up, down = target // factor, source // factor
    taps = resampling_filter(source, target)
    half = taps.shape[1] // 2
    position = np.arange(len(samples) * up // down, dtype=np.int64) * down
    base, phase = position // up, position % up
    padded = np.pad(samples.astype(np.float32), half)
    result: np.ndarray = np.zeros(len(position), dtype=np.float32)
    for tap in range(2 * half):
        result += padded[base + tap + 1] * taps[phase, tap]
    return result


def synthesise(utterance: Utterance) -> np.ndarray:
    """Let espeak-ng say an utterance; return 16 kHz mono 16-bit samples."""
    spoken = utterance.separator.join(utterance.text.split())
    options = ("-v", utterance.voice, "-s", str(utterance.speed), "-p", str(utterance.pitch))
    data = espeak(*options, "-g", str(utterance.gap), "--stdout", spoken)
    # The length fields of the header are placeholders when espeak-ng writes to a pipe, so
    # the samples are taken from behind the fixed 44-byte header instead.
    rate = int.from_bytes(data[24:28], "little")
    samples = np.frombuffer(data[44 : len(data) // 2 * 2], dtype="<i2").astype(np.float32)
    return np.clip(np.round(resample(samples, rate, SAMPLE_RATE)), -32768, 32767).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write 16 kHz mono 16-bit PCM."""
    with wave.open(str(path), "wb") as sink:
        sink.setnchannels(1)
        sink.setsampwidth(2)
        sink.setframerate(SAMPLE_RATE)
        sink.writeframes(samples.astype("<i2").tobytes())


def read_wav(path: Path) -> np.ndarray:
    """Read a 16 kHz mono 16-bit WAV file as floats in -1..1."""
    with wave.open(str(path), "rb") as source:
        form = (source.getframerate(), source.getnchannels(), source.getsampwidth())
        if form != (SAMPLE_RATE, 1, 2):
            raise SystemExit(f"{path}: expected 16 kHz mono 16-bit, found {form}")
        data = source.readframes(source.getnframes())
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0


def read_manifest(folder: Path) -> list[tuple[Path, str]]:
    """Return the (sound file, text) pairs that a folder's manifest.jsonl lists."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.strip()]
    return [(folder / entry["audio"], entry["text"]) for entry in entries]


def make_corpus(out: Path, count: int, seed: int, jobs: int) -> None:
    """Synthesise the training sounds into one .npz file."""
    plan = training_plan(count, seed)
    with ThreadPoolExecutor(jobs) as pool:
        sounds = list(pool.map(synthesise, plan))
    ends = np.cumsum([len(sound) for sound in sounds])
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, samples=np.concatenate(sounds), ends=ends, texts=[item.text for item in plan])
    print(f"{count} sounds, {ends[-1] / SAMPLE_RATE / 3600:.2f} h -> {out}")


def make_heldout(out: Path, plan: Sequence[Utterance], jobs: int) -> None:
    """Synthesise held-out sounds as WAV files with a manifest."""
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool, (out / "manifest.jsonl").open("w") as manifest:
        for index, (item, sound) in enumerate(zip(plan, pool.map(synthesise, plan), strict=True)):
            name = f"heldout_{index:04d}.wav"
            write_wav(out / name, sound)
            entry = {"audio": name, "text": item.text, "voice": item.voice, "speed": item.speed}
            manifest.write(json.dumps(entry) + "\n")
    print(f"{len(plan)} sounds -> {out}")


# ---------------------------------------------------------------------- augmentation


def noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return noise of unit power: white, low-passed or mains hum."""
    kind = rng.integers(3)
    if kind == 2:
        clock = np.arange(length) / SAMPLE_RATE
        base = rng.uniform(45.0, 130.0)
        shape = sum(np.sin(2 * np.pi * base * k * clock + rng.uniform(0, 6)) / k for k in (1, 2, 3))
        signal = np.asarray(shape)
    else:
        signal = rng.standard_normal(length)
        if kind == 1:
            signal = np.convolve(signal, np.ones(12) / 12, mode="same")
    return np.asarray(signal / (np.sqrt(np.mean(signal**2)) + 1e-9), dtype=np.float32)


def augment(rng: np.random.Generator, sound: np.ndarray) -> np.ndarray:
    """Vary speed and pitch, pad with silence, add noise and set a random level."""
    signal = sound.astype(np.float32) / 32768.0
    if rng.random() < 0.7:
        rate = rng.uniform(0.88, 1.14)
        grid = np.arange(0, len(signal) - 1, rate)
        signal = np.interp(grid, np.arange(len(signal)), signal).astype(np.float32)
    before, after = (int(rng.uniform(0.05, 0.5) * SAMPLE_RATE) for _ in range(2))
    signal = np.pad(signal, (before, after))
    if rng.random() < 0.8:
        power = np.sqrt(np.mean(signal**2)) + 1e-9
        level = power * 10 ** (-rng.uniform(5.0, 45.0) / 20.0)
        signal = signal + level * noise(rng, len(signal))
    return np.asarray(signal * (rng.uniform(0.1, 0.9) / (np.abs(signal).max() + 1e-9)), np.float32)


def batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of indices for ever, each of similar lengths to save padding."""
    while True:
        order = rng.permutation(len(lengths))
        for start in range(0, len(order) - size * 8 + 1, size * 8):
            pool = order[start : start + size * 8]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            for row in rng.permutation(8):
                yield pool[row * size : (row + 1) * size]


# ----------------------------------------------------------------------------- model


def make_tokenizer(folder: Path) -> None:
    """Write a SentencePiece word model: <unk> and the ten digits, one token a word."""
    import sentencepiece

    # Distinct frequencies fix the order of the pieces: zero is 1, nine is 10.
    sentences = [word for rank, word in enumerate(DIGITS) for _ in range(20 - rank)]
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        # Written to memory, because a file name would be stored inside the model.
        model_writer=model,
        model_type="word",
        vocab_size=len(DIGITS) + 1,
        bos_id=-1,
        eos_id=-1,
        # The default normaliser would add 240 kB of Unicode tables for ten ASCII words.
        normalization_rule_name="identity",
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    if pieces != ["<unk>", *("▁" + word for word in DIGITS)]:
        raise SystemExit(f"unexpected tokenizer pieces: {pieces}")
    scores = "".join(f"{piece}\t{processor.get_score(i)}\n" for i, piece in enumerate(pieces))
    vocabulary = "".join(f"{piece}\n" for piece in pieces[1:])
    (folder / "tokenizer.vocab").write_text(scores, encoding="utf-8")
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")


def model_config(tokenizer: Path) -> dict[str, Any]:
    """Return the NeMo configuration of the model."""
    return {
        "sample_rate": SAMPLE_RATE,
        "log_prediction": False,
        "ctc_reduction": "mean_batch",
        # transcribe() reads this section although nothing is validated with it.
        "validation_ds": {
            "manifest_filepath": None,
            "sample_rate": SAMPLE_RATE,
            "batch_size": 1,
            "shuffle": False,
            "use_start_end_token": False,
            "defer_setup": True,
        },
        "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": SAMPLE_RATE,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 80,
            "n_fft": 512,
            "log": True,
            "frame_splicing": 1,
            # Random dither would make the answer to the same sound differ between calls.
            "dither": 0.0,
            "pad_to": 0,
            "pad_value": 0.0,
        },
        "spec_augment": {
            "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
            "freq_masks": 2,
            "time_masks": 0,
            "freq_width": 15,
            "time_width": 0.05,
        },
        "encoder": encoder_config(),
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": None,
            "num_classes": -1,
            "vocabulary": [],
        },
        "decoding": {"strategy": "greedy"},
    }


def encoder_config() -> dict[str, Any]:
    """Return the encoder section: a Conformer of four narrow layers."""
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": 4,
        "d_model": 80,
        "subsampling": "striding",
        "subsampling_factor": 4,
        "subsampling_conv_channels": 24,
        "ff_expansion_factor": 2,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "att_context_size": [-1, -1],
        "xscaling": True,
        "untie_biases": True,
        # The table is baked into the exported graph: 1000 frames are 40 s of sound, and the
        # default of 5000 would double the size of the ONNX file.
        "pos_emb_max_len": 1000,
        "conv_kernel_size": 15,
        "conv_norm_type": "batch_norm",
        "dropout": 0.05,
        "dropout_pre_encoder": 0.05,
        "dropout_emb": 0.0,
        "dropout_att": 0.05,
    }


def quiet_torch(threads: int = 1) -> None:
    """Fix the thread count (it changes the bits of the result) and silence NeMo."""
    import torch
    from nemo.utils import logging

    torch.set_num_threads(threads)
    logging.setLevel(logging.ERROR)


def new_model(tokenizer: Path) -> Any:
    """Build the untrained model."""
    from nemo.collections.asr.models import EncDecCTCModelBPE
    from omegaconf import OmegaConf

    return EncDecCTCModelBPE(cfg=OmegaConf.create(model_config(tokenizer)))


def load_model(path: Path) -> Any:
    """Restore a .nemo file for inference on the CPU."""
    quiet_torch()
    from nemo.core import ModelPT

    return ModelPT.restore_from(str(path), map_location="cpu").eval()


def collapse(best: Iterable[int]) -> str:
    """Turn the best token of every frame into text (greedy CTC)."""
    words: list[str] = []
    previous = BLANK
    for token in best:
        if token not in (previous, BLANK, 0):
            words.append(DIGITS[token - 1])
        previous = token
    return " ".join(words)


def features(model: Any, sound: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-mel features of one sound and their length."""
    import torch

    signal = torch.from_numpy(sound)[None]
    length = torch.tensor([len(sound)])
    with torch.no_grad():
        mel, mel_length = model.preprocessor(input_signal=signal, length=length)
    return mel, mel_length


def log_probabilities(model: Any, sound: np.ndarray) -> torch.Tensor:
    """Return the log probabilities, shape (frames, tokens), of one sound on its own."""
    import torch

    mel, length = features(model, sound)
    with torch.no_grad():
        output, frames, _ = model(processed_signal=mel, processed_signal_length=length)
    return output[0, : int(frames[0])]


# -------------------------------------------------------------------------- training


def load_corpus(path: Path) -> tuple[list[np.ndarray], list[list[int]]]:
    """Return the sounds and the token ids of a corpus file."""
    with np.load(path) as data:
        sounds = np.split(data["samples"], data["ends"][:-1])
        texts = [str(text) for text in data["texts"]]
    return sounds, [[DIGITS.index(word) + 1 for word in text.split()] for text in texts]


def collate(
    sounds: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad sounds and tokens to tensors: signals, their lengths, targets, their lengths."""
    import torch

    sound_lengths = torch.tensor([len(sound) for sound in sounds])
    token_lengths = torch.tensor([len(row) for row in tokens])
    signals = torch.zeros(len(sounds), int(sound_lengths.max()))
    targets = torch.zeros(len(sounds), int(token_lengths.max()), dtype=torch.long)
    for row, (sound, ids) in enumerate(zip(sounds, tokens, strict=True)):
        signals[row, : len(sound)] = torch.from_numpy(sound)
        targets[row, : len(ids)] = torch.tensor(ids)
    return signals, sound_lengths, targets, token_lengths


def train_step(model: Any, optimizer: Any, schedule: Any, batch: Sequence[torch.Tensor]) -> float:
    """Do one optimiser step and return the loss."""
    import torch

    signals, sound_lengths, targets, token_lengths = batch
    output, frames, _ = model(input_signal=signals, input_signal_length=sound_lengths)
    loss = model.loss(
        log_probs=output, targets=targets, input_lengths=frames, target_lengths=token_lengths
    )
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    return float(loss.detach())


def save_weights(model: Any, path: Path) -> None:
    """Write the weights under their name only when they are complete."""
    import torch

    part = path.with_suffix(".part")
    torch.save(model.state_dict(), part)
    part.replace(path)


def train(args: argparse.Namespace) -> None:
    """Train from a corpus file; write ``digits.pt`` (and a copy every few steps)."""
    quiet_torch()
    import torch

    random.seed(args.seed)  # SpecAugment draws its masks from the random module
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    make_tokenizer(args.work / "tokenizer")
    model = new_model(args.work / "tokenizer").train()
    sounds, tokens = load_corpus(args.corpus)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=args.steps, pct_start=0.12
    )
    picks = batches(np.array([len(sound) for sound in sounds]), args.batch, rng)
    start = time.monotonic()
    losses: list[float] = []
    # The run ends by step count: a stop by the clock would make it impossible to repeat.
    for step in range(1, args.steps + 1):
        chosen = next(picks)
        batch = collate([augment(rng, sounds[i]) for i in chosen], [tokens[i] for i in chosen])
        losses.append(train_step(model, optimizer, schedule, batch))
        if step % 50 == 0:
            mean, spent = np.mean(losses[-50:]), time.monotonic() - start
            print(f"step {step}  loss {mean:.4f}  {spent:.0f} s", flush=True)
        if step % args.save_every == 0 or step == args.steps:
            save_weights(model, args.work / f"step_{step:05d}.pt")
    save_weights(model, args.work / "digits.pt")


# ---------------------------------------------------------------------------- packing


def pack(weights: Path, work: Path, out: Path) -> None:
    """Write trained weights as a .nemo file without any trace of this machine."""
    quiet_torch()
    import torch
    from omegaconf import open_dict

    make_tokenizer(work / "tokenizer")
    model = new_model(work / "tokenizer").eval()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    with open_dict(model.cfg):
        # An absolute folder of the machine that trained; restoring takes the packed file.
        model.cfg.tokenizer.dir = "tokenizer"
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.nemo"
        model.save_to(str(plain))
        rewrite_tar(plain, out)
    out.chmod(0o644)
    print(f"{out}: {out.stat().st_size} bytes")


def rewrite_tar(source: Path, target: Path) -> None:
    """Copy a .nemo archive with neutral owners and times, configuration before weights."""
    with tarfile.open(source, "r:") as old:
        members = [
            (member.name, old.extractfile(member).read())  # type: ignore[union-attr]
            for member in old.getmembers()
            if member.isfile()
        ]
    # A reader that stops at the configuration should not have to pass the weights first.
    members.sort(key=lambda item: (item[0].endswith(".ckpt"), item[0]))
    with tarfile.open(target, "w:", format=tarfile.USTAR_FORMAT) as new:
        for name, data in members:
            header = tarfile.TarInfo(f"./{name.removeprefix('./')}")
            header.size, header.mode = len(data), 0o644
            new.addfile(header, io.BytesIO(data))


# ------------------------------------------------------------------------- measuring


def torch_recogniser(model: Any) -> Callable[[Path], str]:
    """Return a function that decodes one file with PyTorch."""

    def recognise(path: Path) -> str:
        return collapse(log_probabilities(model, read_wav(path)).argmax(-1).tolist())

    return recognise


def transcribe_recogniser(model: Any) -> Callable[[Path], str]:
    """Return a function that decodes one file with NeMo's own transcribe()."""

    def recognise(path: Path) -> str:
        result = model.transcribe([str(path)], batch_size=1, verbose=False)[0]
        return str(getattr(result, "text", result))

    return recognise


def onnx_recogniser(model: Any, folder: Path) -> Callable[[Path], str]:
    """Export the model and return a function that decodes one file with ONNX Runtime."""
    import onnxruntime

    graph = folder / "model.onnx"
    model.export(str(graph))
    print(f"model.onnx: {graph.stat().st_size} bytes, onnxruntime {onnxruntime.__version__}")
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])

    def recognise(path: Path) -> str:
        mel, length = features(model, read_wav(path))
        feed = {"audio_signal": mel.numpy(), "length": length.numpy()}
        (output,) = session.run(["logprobs"], feed)
        return collapse(output[0].argmax(-1).tolist())

    return recognise


def evaluate(nemo: Path, folder: Path, backend: str) -> float:
    """Print the errors and the share of sounds whose whole string is right."""
    model = load_model(nemo)
    entries = read_manifest(folder)
    right = 0
    with tempfile.TemporaryDirectory() as scratch:
        recognise = {
            "torch": lambda: torch_recogniser(model),
            "transcribe": lambda: transcribe_recogniser(model),
            "onnx": lambda: onnx_recogniser(model, Path(scratch)),
        }[backend]()
        for path, text in entries:
            heard = recognise(path)
            right += heard == text
            if heard != text:
                print(f"wrong  {path.name}  said: {text}  heard: {heard}")
    share = right / len(entries)
    print(f"{backend}: {right} of {len(entries)} exact = {share:.4f}")
    return share


def string_probability(model: Any, path: Path, text: str) -> float:
    """Return the probability the model gives to a string, over all its CTC alignments."""
    import torch

    output = log_probabilities(model, read_wav(path))
    ids = torch.tensor([DIGITS.index(word) + 1 for word in text.split()])
    loss = torch.nn.functional.ctc_loss(
        output[:, None],
        ids[None],
        torch.tensor([len(output)]),
        torch.tensor([len(ids)]),
        blank=BLANK,
        reduction="sum",
    )
    return math.exp(-float(loss))


def fixtures(nemo: Path, source: Path, out: Path) -> None:
    """Copy six held-out sounds of 3 to 6 digits that are right with the widest margin."""
    model = load_model(nemo)
    heard = torch_recogniser(model)
    lines = (source / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    scores = {
        e["audio"]: string_probability(model, source / e["audio"], e["text"]) for e in entries
    }
    entries.sort(key=lambda entry: -scores[entry["audio"]])
    out.mkdir(parents=True, exist_ok=True)
    accents: set[str] = set()
    with (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for number, length in enumerate((3, 3, 4, 4, 5, 6), start=1):
            entry = next(
                entry
                for entry in entries
                # Six accents say more about the model than six sounds of the clearest one.
                if len(entry["text"].split()) == length
                and entry["voice"].split("+")[0] not in accents
            )
            probability = scores[entry["audio"]]
            if probability < 0.95 or heard(source / entry["audio"]) != entry["text"]:
                raise SystemExit(f"no clear sound of {length} digits: {probability:.3f}")
            accents.add(entry["voice"].split("+")[0])
            name = f"digits_{number}.wav"
            shutil.copyfile(source / entry["audio"], out / name)
            manifest.write(json.dumps({**entry, "audio": name}) + "\n")
            print(f"{name}  {entry['text']}  {entry['voice']}  p {probability:.5f}")


# ---------------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = top.add_subparsers(dest="command", required=True)
    jobs = os.cpu_count() or 1

    step = steps.add_parser("corpus", help="synthesise the training sounds")
    step.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    step.add_argument("--count", type=int, default=6000)
    step.add_argument("--seed", type=int, default=1)
    step.add_argument("--jobs", type=int, default=jobs)

    step = steps.add_parser("heldout", help="synthesise held-out sounds as WAV files")
    step.add_argument("--out", type=Path, required=True, help="the folder to write")
    step.add_argument("--count", type=int, default=200)
    step.add_argument("--seed", type=int, default=2)
    step.add_argument("--min-digits", type=int, default=3)
    step.add_argument("--max-digits", type=int, default=6)
    step.add_argument("--jobs", type=int, default=jobs)

    step = steps.add_parser("train", help="train the model")
    step.add_argument("--corpus", type=Path, required=True, help="the .npz file of corpus")
    step.add_argument("--work", type=Path, required=True, help="where weights are written")
    step.add_argument("--steps", type=int, default=2000)
    step.add_argument("--batch", type=int, default=32)
    step.add_argument("--seed", type=int, default=3)
    step.add_argument("--save-every", type=int, default=250)

    step = steps.add_parser("pack", help="write trained weights as a .nemo file")
    step.add_argument("--weights", type=Path, required=True)
    step.add_argument("--work", type=Path, required=True, help="the folder given to train")
    step.add_argument("--out", type=Path, required=True, help="the .nemo file to write")

    step = steps.add_parser("evaluate", help="measure exact-string accuracy")
    step.add_argument("--nemo", type=Path, required=True)
    step.add_argument("--data", type=Path, required=True, help="a folder with manifest.jsonl")
    step.add_argument("--backend", choices=("torch", "transcribe", "onnx"), default="torch")
    step.add_argument("--at-least", type=float, default=0.0, help="fail below this share")

    step = steps.add_parser("fixtures", help="copy a few clear held-out sounds")
    step.add_argument("--nemo", type=Path, required=True)
    step.add_argument("--data", type=Path, required=True, help="the folder written by heldout")
    step.add_argument("--out", type=Path, required=True)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step."""
    args = parser().parse_args(arguments)
    if args.command == "corpus":
        make_corpus(args.out, args.count, args.seed, args.jobs)
    elif args.command == "heldout":
        plan = heldout_plan(args.count, args.seed, args.min_digits, args.max_digits)
        make_heldout(args.out, plan, args.jobs)
    elif args.command == "train":
        train(args)
    elif args.command == "pack":
        pack(args.weights, args.work, args.out)
    elif args.command == "evaluate":
        return int(evaluate(args.nemo, args.data, args.backend) < args.at_least)
    else:
        fixtures(args.nemo, args.data, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
