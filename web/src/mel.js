// The mel spectrogram of a whole recording, computed block by block: at most COLUMNS spectra, however long it is.

const COLUMNS = 800;
const BANDS = 96;
const FFT = 1024; // samples of a spectrum
const HOP = 160; // samples between two spectra, at least
const FLOOR = 80; // dB below the loudest point that are shown

/** Give it all samples in consecutive blocks; `total` is about how many there will be. */
export class Spectrogram {
  constructor(total, rate) {
    Object.assign(this, { rate, hop: Math.max(HOP, Math.ceil(total / COLUMNS)), samples: 0 });
    this.held = new Float32Array(FFT / 2); // so that the first spectrum has its middle at the first sample
    this.begin = -FFT / 2; // the sample with which `held` begins
    this.columns = [];
    this.filters = melFilters(rate);
  }

  push(block) {
    this.samples += block.length;
    for (let at = 0; at < block.length; at += FFT) this.take(block.subarray(at, at + FFT));
  }

  /** { columns, bands, seconds, rate, floor in dB, levels [columns * bands] from 0 (floor) to 255 (loudest) }. */
  result() {
    const seconds = this.samples / this.rate;
    this.push(new Float32Array(FFT / 2));
    const decibels = this.columns.map((column) => column.map((power) => 10 * Math.log10(power + 1e-12)));
    const loudest = decibels.reduce((most, column) => Math.max(most, ...column), -120);
    const levels = new Uint8Array(decibels.length * BANDS);
    decibels.forEach((column, x) =>
      column.forEach((level, band) => (levels[x * BANDS + band] = 255 * Math.max(0, 1 - (loudest - level) / FLOOR))),
    );
    return { columns: decibels.length, bands: BANDS, seconds, rate: this.rate, floor: FLOOR, levels };
  }

  take(block) {
    const held = new Float32Array(this.held.length + block.length);
    held.set(this.held);
    held.set(block, this.held.length);
    this.held = held;
    for (;;) {
      const first = this.columns.length * this.hop - FFT / 2 - this.begin;
      if (first + FFT > this.held.length) break;
      this.columns.push(this.spectrum(this.held.subarray(first, first + FFT)));
    }
    const done = Math.min(this.columns.length * this.hop - FFT / 2 - this.begin, this.held.length);
    this.held = this.held.slice(done);
    this.begin += done;
  }

  spectrum(samples) {
    const power = powerSpectrum(samples);
    return this.filters.map(({ first, weights }) => weights.reduce((sum, w, k) => sum + w * power[first + k], 0));
  }
}

/** Hz on the mel scale, which has equal steps where ears do. */
export function toMel(hertz) {
  return 2595 * Math.log10(1 + hertz / 700);
}

function toHertz(mel) {
  return 700 * (10 ** (mel / 2595) - 1);
}

/** BANDS triangles on the mel scale, each { first bin, weights }. */
function melFilters(rate) {
  const step = toMel(rate / 2) / (BANDS + 1);
  return Array.from({ length: BANDS }, (_, band) => {
    const [low, middle, high] = [0, 1, 2].map((i) => (toHertz((band + i) * step) * FFT) / rate);
    const first = Math.min(Math.ceil(low), Math.round(middle));
    const weights = [];
    for (let bin = first; bin <= Math.max(Math.floor(high), first); bin++) {
      weights.push(Math.max(0, Math.min((bin - low) / (middle - low), (high - bin) / (high - middle))));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: sum ? weights.map((w) => w / sum) : weights.map((_, i) => Number(i === 0)) };
  });
}

const HANN = Float64Array.from({ length: FFT }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / FFT));

/** The power of samples [FFT] at FFT / 2 + 1 frequencies, by a radix-2 Fourier transform. */
function powerSpectrum(samples) {
  const re = Float64Array.from(samples, (sample, i) => sample * HANN[i]);
  const im = new Float64Array(FFT);
  transform(re, im);
  return re.subarray(0, FFT / 2 + 1).map((x, k) => (x * x + im[k] * im[k]) / FFT);
}

function transform(re, im) {
  for (let i = 1, j = 0; i < FFT; i++) {
    let bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let half = 1; half < FFT; half *= 2) {
    for (let k = 0; k < half; k++) {
      const [c, s] = [Math.cos((Math.PI * k) / half), -Math.sin((Math.PI * k) / half)];
      for (let a = k; a < FFT; a += 2 * half) {
        const b = a + half;
        const [x, y] = [c * re[b] - s * im[b], c * im[b] + s * re[b]];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        [re[a], im[a]] = [re[a] + x, im[a] + y];
      }
    }
  }
}
