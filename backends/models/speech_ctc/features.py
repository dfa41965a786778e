"""Log-mel features as NeMo's AudioToMelSpectrogramPreprocessor makes them, in NumPy.

The filterbank and the window are the checkpoint's own, saved by the export as ``frontend.npz``.
Python 3.10 syntax.
"""

import numpy as np

BLOCK = 4096
"""Frames that are transformed at once: bounds the memory of a long recording."""
EPSILON = 1e-5
"""Added to the standard deviation, as `nemo.…features.normalize_batch` does."""


class Frontend:
    """Samples at `sample_rate` Hz to features of shape [features, frames]."""

    def __init__(self, path):
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
