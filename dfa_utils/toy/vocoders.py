"""Small vocoders of the toy data: waveform [T] float64 at SAMPLE_RATE Hz in, as many samples out.

Each draws its settings from `rng`, so that one system makes both good and bad fakes.
"""

from __future__ import annotations

import numpy as np
from scipy import signal
from scipy.linalg import solve_toeplitz

from dfa_utils.toy.voice import SAMPLE_RATE


def griffin_lim(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mel spectrogram of 48 to 83 bands, inverted by 4 to 23 rounds of Griffin-Lim from random phase."""
    grid, bands, rounds = _grid(), int(rng.integers(48, 84)), int(rng.integers(4, 24))
    magnitude = np.abs(grid.stft(wave))  # [bins, frames]
    bank = _mel_bank(bands, len(magnitude))
    # Processors differ in the last bits of linear algebra. Nearly dependent filters and the rounds would amplify that.
    magnitude = np.maximum(np.linalg.pinv(bank, rcond=1e-3) @ (bank @ magnitude), 0).round(4)
    phase = rng.uniform(-np.pi, np.pi, magnitude.shape)
    for _ in range(rounds):
        phase = np.angle(grid.stft(grid.istft(magnitude * np.exp(1j * phase), k1=len(wave))))
    return grid.istft(magnitude * np.exp(1j * phase), k1=len(wave))


def phase_blind(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The spectrogram with a random phase shift at each point, of up to 0.3 to 0.5 of a turn."""
    grid, most = _grid(), rng.uniform(0.6, 1) * np.pi
    spectrum = grid.stft(wave)
    return grid.istft(spectrum * np.exp(1j * rng.uniform(-most, most, spectrum.shape)), k1=len(wave))


def minimum_phase(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every frame of the spectrogram made minimum-phase by its cepstrum: one pulse per frame, whatever the pitch."""
    grid = _grid()
    log = np.log(np.abs(grid.stft(wave)) + 1e-6)  # [bins, frames]
    cepstrum = np.fft.irfft(log, axis=0)
    fold = np.zeros((len(cepstrum), 1))
    fold[0] = fold[len(fold) // 2] = 1
    fold[1 : len(fold) // 2] = 2
    return grid.istft(np.exp(np.fft.rfft(cepstrum * fold, axis=0)), k1=len(wave))


def lpc(wave: np.ndarray, rng: np.random.Generator, hop: int = 160) -> np.ndarray:
    """Linear prediction of order 12 to 17, with a pulse train or noise as the excitation."""
    frames, order = _frames(wave, 640, hop), int(rng.integers(12, 18))
    excitation = _buzz(_pitch(frames), hop, rng).reshape(-1, hop)
    power = np.abs(np.fft.rfft(frames * np.hanning(640), 1280)) ** 2
    state, out = np.zeros(order), []
    for r, block in zip(np.fft.irfft(power)[:, : order + 1] / 240, excitation, strict=True):
        r = r + np.eye(order + 1)[0] * (1e-4 * r[0] + 1e-9)
        a = solve_toeplitz(r[:-1], r[1:])
        filtered, state = signal.lfilter([np.sqrt(r[0] - a @ r[1:])], [1, *-a], block, zi=state)
        out.append(filtered)
    return np.concatenate(out)[: len(wave)]


def channel(wave: np.ndarray, rng: np.random.Generator, bands: int = 32) -> np.ndarray:
    """Channel vocoder: the energies of a few mel bands shape a carrier of pulses and noise."""
    grid, hop = _grid(), 160
    carrier = _buzz(_pitch(_frames(wave, 640, hop)), hop, rng)[: len(wave)]
    shape, colour = (np.abs(grid.stft(x)) for x in (wave, carrier))  # [bins, frames]
    bank = _mel_bank(bands, len(shape))
    gain = np.sqrt((bank @ shape**2) / (bank @ colour**2 + 1e-9))  # [bands, frames]
    return grid.istft(grid.stft(carrier) * (bank.T @ gain), k1=len(wave))


VOCODERS = {
    "griffin-lim": griffin_lim,
    "lpc": lpc,
    "phase-blind": phase_blind,
    "minimum-phase": minimum_phase,
    "channel-vocoder": channel,
}


def _grid(window: int = 512, hop: int = 128) -> signal.ShortTimeFFT:
    """A short-time Fourier transform with a Hann window; lengths in samples."""
    return signal.ShortTimeFFT(signal.windows.hann(window, sym=False), hop, SAMPLE_RATE)


def _mel_bank(bands: int, bins: int) -> np.ndarray:
    """Triangular filters [bands, bins], equally spaced on the mel scale from 0 Hz to the Nyquist frequency."""
    top = np.log1p(SAMPLE_RATE / 2 / 700)
    edges = 700 * np.expm1(np.linspace(0, top, bands + 2))
    hertz = np.linspace(0, SAMPLE_RATE / 2, bins)
    return np.stack([np.interp(hertz, edges[k : k + 3], [0, 1, 0]) for k in range(bands)])


def _frames(wave: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Overlapping frames [ceil(T / hop), length], centred on the hops."""
    padded = np.pad(wave, ((length - hop) // 2, length))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[: len(wave) : hop]


def _pitch(frames: np.ndarray) -> np.ndarray:
    """f0 [N] in Hz of frames [N, L] by autocorrelation, 0 where unvoiced."""
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), 2 * frames.shape[1])) ** 2
    correlation = np.fft.irfft(spectrum)[:, : SAMPLE_RATE // 70] / (spectrum.mean(axis=1, keepdims=True) + 1e-9)
    low = SAMPLE_RATE // 320
    lag = low + correlation[:, low:].argmax(axis=1)
    voiced = correlation[np.arange(len(lag)), lag] > 0.35
    return signal.medfilt(np.where(voiced, SAMPLE_RATE / lag, 0), 5)


def _buzz(f0: np.ndarray, hop: int, rng: np.random.Generator) -> np.ndarray:
    """Excitation [N * hop] of unit power: an over-regular pulse train where f0 [N] > 0, else noise."""
    pace = np.repeat(f0, hop) / SAMPLE_RATE
    pulses = np.diff(np.floor(np.cumsum(pace)), prepend=0) / np.sqrt(np.maximum(pace, 1e-3))
    return np.where(pace > 0, pulses, rng.standard_normal(len(pace)))
