"""What studios, phones, messengers and web pages do to speech before anyone judges it: one clip at a time.

Both classes go through the same operations, so none of them can tell a person from a synthesiser. Every operation takes
and returns a waveform [T] float32 at 16 kHz and draws its settings from a NumPy generator.
"""

import io
from fractions import Fraction

import av
import librosa
import numpy as np
import soundfile
from scipy.signal import istft, lfilter, stft

RATE = 16_000  # Hz
LOW_RATES = (8_000, 11_025, 12_000, 16_000, 22_050)  # Hz, of telephones, old web pages and older synthesisers
QUALITIES = ("qq", "lq", "mq", "hq", "vhq")  # of soxr's resamplers
OPUS_RANGE = 6_000, 256_000  # bit/s; libsndfile's compression level 1 and 0
MP3_LEVELS = {32: 0.9, 48: 0.85, 64: 0.8, 96: 0.65, 128: 0.5}  # kbit/s at 44.1 kHz: libsndfile's compression level
MP3_DELAY, AAC_DELAY = 1_105, 1_024  # samples that a decoder puts before the sound where no header tells them
READERS = {"adts": "aac", "g722": "g722"}  # FFmpeg's names of what reads the streams that it writes
ENCODERS = ("mp3", "opus", "vorbis", "aac", "g722")


def received(clip: np.ndarray, draw: np.random.Generator, production: float = 0.4, coding: float = 0.4) -> np.ndarray:
    """A clip after each step of production with a chance of its own, and after a real encoder for a share `coding`."""
    if draw.random() < production:
        for step, chance in PRODUCTION:
            if draw.random() < chance:
                clip = step(clip, draw)
    return encode(clip, draw) if draw.random() < coding else clip


def compress(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A compressor or limiter: levels above a threshold, 6 to 30 dB below the peak, rise 2 to 20 times slower."""
    ratio, below = draw.uniform(2, 20), draw.uniform(6, 30)
    level = follow(clip, draw.uniform(0.002, 0.05))
    over = np.maximum(level - (level.max() - below), 0)  # dB
    return (clip * from_db(-over * (1 - 1 / ratio))).astype(np.float32)


def gate(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A noise gate: what is 25 to 45 dB below the peak becomes 6 to 40 dB quieter."""
    level = follow(clip, draw.uniform(0.01, 0.05))
    closed = np.clip((level.max() - draw.uniform(25, 45) - level) / 6, 0, 1)
    return (clip * from_db(-closed * draw.uniform(6, 40))).astype(np.float32)


def level_out(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Automatic gain control: a slow envelope is brought to one level, by up to 20 dB."""
    level = follow(clip, draw.uniform(0.1, 0.5))
    gain = np.clip(level.max() - level, 0, draw.uniform(6, 20)) * draw.uniform(0.4, 1)
    return (clip * from_db(gain)).astype(np.float32)


def remove_noise(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Spectral subtraction (Boll 1979): each band loses 1 to 3 times the power of its quietest frames."""
    size = int(draw.choice((256, 512, 1024)))
    if draw.random() < 0.5:
        noise = draw.standard_normal(len(clip)) * clip.std() * from_db(-draw.uniform(15, 35))
        clip = clip + noise.astype(np.float32)
    _, _, spectrum = stft(clip, RATE, nperseg=size, noverlap=size * 3 // 4)
    power = np.abs(spectrum) ** 2
    noise = draw.uniform(1, 3) * np.quantile(power, draw.uniform(0.05, 0.25), axis=1, keepdims=True)
    gain = np.sqrt(np.maximum(1 - noise / np.maximum(power, 1e-12), from_db(-draw.uniform(10, 40)) ** 2))
    _, cleaned = istft(spectrum * gain, RATE, nperseg=size, noverlap=size * 3 // 4)
    return fit(cleaned, len(clip))


def shelve(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """An equaliser: a shelf of -9 to 9 dB from 1 to 6 kHz on, and one of -9 to 6 dB up to 80 to 400 Hz."""
    hz = np.fft.rfftfreq(len(clip), 1 / RATE)
    high = draw.uniform(-9, 9) / (1 + (draw.uniform(1_000, 6_000) / np.maximum(hz, 1)) ** 2)
    low = draw.uniform(-9, 6) / (1 + (hz / draw.uniform(80, 400)) ** 2)
    return fit(np.fft.irfft(np.fft.rfft(clip) * from_db(high + low), len(clip)), len(clip))


def resample(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Down to one of LOW_RATES and back, each way by a resampler of a drawn quality."""
    low = int(draw.choice(LOW_RATES))
    for old, new in ((RATE, low), (low, RATE)):
        clip = librosa.resample(clip, orig_sr=old, target_sr=new, res_type=f"soxr_{draw.choice(QUALITIES)}")
    return clip


def reduce_bits(clip: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Rounded to 8 to 13 bits of full scale, with the clip's peak at full scale."""
    steps = 2 ** (draw.integers(8, 14) - 1) / peak(clip)
    return (np.round(clip * steps) / steps).astype(np.float32)


PRODUCTION = ((remove_noise, 0.25), (shelve, 0.5), (compress, 0.5), (gate, 0.2), (level_out, 0.25))
PRODUCTION += ((reduce_bits, 0.1), (resample, 0.35))


def encode(clip: np.ndarray, draw: np.random.Generator, codec: str = "", kbit: float = 0) -> np.ndarray:
    """Through a real encoder and back: one of ENCODERS at a drawn rate, or `codec` at `kbit` kbit/s.

    MP3 and AAC work at 44.1 kHz half of the time, as web pages have them, and always if `codec` is given.
    """
    wide = bool(codec) or draw.random() < 0.5
    codec = codec or str(draw.choice(ENCODERS, p=(0.3, 0.35, 0.1, 0.15, 0.1)))
    scale = peak(clip) / draw.uniform(0.3, 0.95)
    rate = 44_100 if codec in ("mp3", "aac") and wide else RATE
    sound = librosa.resample(clip / np.float32(scale), orig_sr=RATE, target_sr=rate)
    if codec == "mp3":
        level = MP3_LEVELS[int(kbit or draw.choice(list(MP3_LEVELS)))] if wide else draw.uniform(0.3, 0.9)
        coded = _by_libsndfile(sound, rate, "MP3", "MPEG_LAYER_III", level, bitrate_mode="CONSTANT")
        sound = coded[MP3_DELAY if len(coded) > len(sound) else 0 :]
    elif codec == "opus":
        kbit = kbit or float(draw.choice((12, 16, 24, 32, 48, 64)))
        low, high = OPUS_RANGE
        sound = _by_libsndfile(sound, rate, "OGG", "OPUS", 1 - (1_000 * kbit - low) / (high - low))
    elif codec == "vorbis":
        sound = _by_libsndfile(sound, rate, "OGG", "VORBIS", draw.uniform(0.3, 1))
    elif codec == "aac":
        sound = _by_ffmpeg(sound, rate, "aac", "adts", kbit or float(draw.choice((32, 48, 64, 96))))[AAC_DELAY:]
    else:
        sound = _by_ffmpeg(sound, rate, "g722", "g722", 64)
    return fit(librosa.resample(sound, orig_sr=rate, target_sr=RATE), len(clip)) * np.float32(scale)


def _by_libsndfile(sound: np.ndarray, rate: int, container: str, subtype: str, level: float, **style) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=container, subtype=subtype, compression_level=level, **style)
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]


def _by_ffmpeg(sound: np.ndarray, rate: int, codec: str, container: str, kbit: float) -> np.ndarray:
    file, samples = io.BytesIO(), np.round(np.clip(sound, -1, 1) * 32_767).astype(np.int16)
    with av.open(file, "w", container) as writer:
        stream = writer.add_stream(codec, rate=rate, layout="mono", bit_rate=int(kbit * 1_000))
        stream.time_base = Fraction(1, rate)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*stream.encode(frame), *stream.encode()):
            writer.mux(packet)
    with av.open(io.BytesIO(file.getvalue()), format=READERS[container]) as reader:
        frames = [each.to_ndarray() for each in reader.decode(audio=0)]
    decoded = np.concatenate(frames, axis=1)[0]
    return decoded.astype(np.float32) / 32_768 if decoded.dtype == np.int16 else decoded.astype(np.float32)


def follow(clip: np.ndarray, seconds: float) -> np.ndarray:
    """The level [T] in dB of a clip, smoothed by one pole."""
    kept = np.exp(-1 / (seconds * RATE))
    return 10 * np.log10(lfilter([1 - kept], [1, -kept], clip.astype(np.float64) ** 2) + 1e-9)


def from_db(level):
    """The factor that a level in dB stands for."""
    return 10 ** (level / 20)


def peak(clip: np.ndarray) -> float:
    """The highest magnitude of a clip, at least 1e-4."""
    return max(float(np.abs(clip).max()), 1e-4)


def fit(clip: np.ndarray, size: int) -> np.ndarray:
    """[size] float32: [T] cut at its end or followed by zeros."""
    return np.pad(clip[:size], (0, max(0, size - len(clip)))).astype(np.float32)
