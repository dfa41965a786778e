"""Features as NeMo's AudioToMelSpectrogramPreprocessor and AudioToMFCCPreprocessor make them.

The filterbank, the window and the cosine matrix are the checkpoint's own, saved by the export as
``frontend.npz``. NumPy alone, Python 3.10 syntax.
"""

import numpy as np

BLOCK = 4096
"""Frames that are transformed at once: bounds the memory of a long recording."""
EPSILON = 1e-5
"""Added to the standard deviation, as `nemo.…features.normalize_batch` does."""


TOP_DB = 80.0
"""Range that decibels are cut to, as torchaudio's AmplitudeToDB does."""


def load_frontend(path):
    """The front end that the export saved."""
    with np.load(path, allow_pickle=False) as saved:
        values = {name: saved[name] for name in saved.files}
    return CosineFrontend(values) if "cosines" in values else Frontend(path, values)


def fitted(features, length, frames):
    """Features [F, T] cut or padded around their middle to `frames`, where a model takes only that
    many (0: any). NeMo cuts at a random place; the middle is the same each time."""
    if not frames:
        return features, length
    spare = frames - features.shape[1]
    if spare < 0:
        features = features[:, -spare // 2 : -spare // 2 + frames]
    else:
        features = np.pad(features, ((0, 0), (spare // 2, spare - spare // 2)))
    return features, frames


class Frontend:
    """Samples at `sample_rate` Hz to log-mel features of shape [features, frames]."""

    def __init__(self, path, values=None):
        if values is None:
            with np.load(path, allow_pickle=False) as saved:
                values = {name: saved[name] for name in saved.files}
        self.sample_rate = int(values["sample_rate"])
        self.n_fft = int(values["n_fft"])
        self.hop = int(values["hop_length"])
        self.filterbank = values["filterbank"].astype(np.float64)
        self.preemphasis = float(values["preemphasis"])
        self.power = float(values["mag_power"])
        self.log = bool(values["log"])
        self.guard = str(values["log_zero_guard_type"])
        self.guard_value = float(values["log_zero_guard_value"])
        self.normalize = str(values["normalize"])
        self.fixed_mean = values["fixed_mean"]
        self.fixed_std = values["fixed_std"]
        exact = bool(values["exact_pad"])
        self.padding = (self.n_fft - self.hop) // 2 if exact else self.n_fft // 2
        # torch.stft centres a shorter window in the frame.
        window = values["window"].astype(np.float64)
        left = (self.n_fft - len(window)) // 2
        self.window = np.pad(window, (left, self.n_fft - len(window) - left))

    def frames(self, samples):
        """How many frames a recording of `samples` samples has."""
        return max(0, (samples + 2 * self.padding - self.n_fft) // self.hop)

    def padded(self, samples):
        """Features as NeMo gives them to a model, with its last frame of zeros, and their length."""
        features = self(samples)
        return np.pad(features, ((0, 0), (0, 1))), features.shape[1]

    def __call__(self, samples):
        """Features of float samples [N]: float32 [features, frames]."""
        count = self.frames(len(samples))
        signal = np.asarray(samples, np.float64)
        if self.preemphasis:
            signal = np.concatenate([signal[:1], signal[1:] - self.preemphasis * signal[:-1]])
        signal = np.pad(signal, self.padding)
        views = np.lib.stride_tricks.sliding_window_view(signal, self.n_fft)[:: self.hop][:count]
        mel = np.empty((self.filterbank.shape[0], count))
        for start in range(0, count, BLOCK):
            spectrum = np.abs(np.fft.rfft(views[start : start + BLOCK] * self.window, axis=1))
            mel[:, start : start + BLOCK] = self.filterbank @ (spectrum**self.power).T
        if self.log and self.guard == "add":
            mel = np.log(mel + self.guard_value)
        elif self.log:
            mel = np.log(np.maximum(mel, self.guard_value))
        return self._normalized(mel).astype(np.float32)

    def _normalized(self, mel):
        if self.normalize == "per_feature":
            mean = mel.mean(axis=1, keepdims=True)
            # One frame has no deviation: NeMo takes 0 there.
            spread = mel.std(axis=1, ddof=1, keepdims=True) if mel.shape[1] > 1 else 0.0
            return (mel - mean) / (spread + EPSILON)
        if self.normalize == "all_features":
            spread = mel.std(ddof=1) if mel.size > 1 else 0.0
            return (mel - mel.mean()) / (spread + EPSILON)
        if self.normalize == "fixed":
            return (mel - self.fixed_mean[:, None]) / self.fixed_std[:, None]
        return mel


class CosineFrontend:
    """Samples at `sample_rate` Hz to MFCC features of shape [coefficients, frames]."""

    def __init__(self, values):
        self.sample_rate = int(values["sample_rate"])
        self.n_fft = int(values["n_fft"])
        self.hop = int(values["hop_length"])
        self.filterbank = values["filterbank"].astype(np.float64)
        self.cosines = values["cosines"].astype(np.float64)
        self.log = bool(values["log"])
        window = values["window"].astype(np.float64)
        left = (self.n_fft - len(window)) // 2
        self.window = np.pad(window, (left, self.n_fft - len(window) - left))

    def frames(self, samples):
        """How many frames a recording of `samples` samples has; 0 when it is too short to mirror."""
        return 1 + samples // self.hop if samples > self.n_fft // 2 else 0

    def padded(self, samples):
        """Features as NeMo gives them to a model, and the length that it says."""
        return self(samples), -(-len(samples) // self.hop)

    def __call__(self, samples):
        """Features of float samples [N]: float32 [coefficients, frames]."""
        signal = np.pad(np.asarray(samples, np.float64), self.n_fft // 2, mode="reflect")
        views = np.lib.stride_tricks.sliding_window_view(signal, self.n_fft)[:: self.hop]
        mel = np.empty((self.filterbank.shape[0], len(views)))
        for start in range(0, len(views), BLOCK):
            spectrum = np.abs(np.fft.rfft(views[start : start + BLOCK] * self.window, axis=1))
            mel[:, start : start + BLOCK] = self.filterbank @ (spectrum**2).T
        if self.log:
            mel = np.log(mel + 1e-6)
        else:
            mel = 10.0 * np.log10(np.maximum(mel, 1e-10))
            mel = np.maximum(mel, mel.max() - TOP_DB)
        return (self.cosines @ mel).astype(np.float32)
