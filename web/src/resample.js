// From one sample rate to another, block by block: what dfa_utils/audio.py computes.
//
// Each output sample is a weighted sum of the input samples around it, by a sinc that a Hann window ends.

const ZERO_CROSSINGS = 6; // of the sinc on each side
const ROLL_OFF = 0.99; // of the lower Nyquist frequency: where the low-pass begins
const LARGEST_RATIO = 2000; // the weights of finer ratios would fill memory

/** Resamples consecutive blocks, Float32Array [T] at `from` Hz, to `to` Hz, as if they were one waveform. */
export class Resampler {
  constructor(from, to) {
    [this.new, this.old] = closestFraction(to, from);
    this.same = this.new === this.old;
    this.margin = this.old * Math.ceil((16 * Math.max(1, this.old / this.new)) / this.old); // samples of context
    this.held = new Float32Array(0);
    this.done = 0; // held[:done] was resampled before and is context now
  }

  /** What can be resampled once this block is there; may be empty. */
  push(block) {
    if (this.same) return block;
    this.held = concatenate(this.held, block);
    const ready = Math.floor((this.held.length - this.margin) / this.old) * this.old;
    if (ready < this.margin || ready <= this.done) return new Float32Array(0);
    const out = this.resampleHeld(this.done, ready);
    this.held = this.held.slice(ready - this.margin);
    this.done = this.margin;
    return out;
  }

  /** What is left after the last block. */
  end() {
    if (this.same || this.held.length <= this.done) return new Float32Array(0);
    return this.resampleHeld(this.done, Infinity);
  }

  resampleHeld(first, last) {
    return resample(this.held, this.old, this.new).slice((first * this.new) / this.old, (last * this.new) / this.old);
  }
}

/** [T] at a rate of `old` as [ceil(T * new / old)] at a rate of `new`; the two have no common divisor. */
export function resample(samples, old, fresh) {
  const { weights, starts, taps, reach } = weightsOf(old, fresh);
  const out = new Float32Array(Math.ceil((samples.length * fresh) / old));
  for (let i = 0; i < out.length; i++) {
    const phase = i % fresh;
    const first = starts[phase] + ((i - phase) / fresh) * old - reach;
    const from = Math.max(0, -first);
    const to = Math.min(taps, samples.length - first);
    let sum = 0;
    for (let k = from; k < to; k++) sum += samples[first + k] * weights[phase * taps + k];
    out[i] = sum;
  }
  return out;
}

const known = new Map();

/** Weights [new * taps] of a period's outputs, the first input sample of each [new], and how far back they reach. */
function weightsOf(old, fresh) {
  const key = `${old}/${fresh}`;
  if (!known.has(key)) known.set(key, makeWeights(old, fresh));
  return known.get(key);
}

function makeWeights(old, fresh) {
  const cutoff = Math.min(old, fresh) * ROLL_OFF;
  const reach = Math.ceil((ZERO_CROSSINGS * old) / cutoff);
  const taps = 2 * reach + 2;
  const weights = new Float32Array(fresh * taps);
  const starts = new Int32Array(fresh);
  for (let phase = 0; phase < fresh; phase++) {
    starts[phase] = Math.floor((phase * old) / fresh);
    for (let k = 0; k < taps; k++) {
      const time = ((starts[phase] - reach + k) / old - phase / fresh) * cutoff;
      weights[phase * taps + k] = (windowedSinc(time) * cutoff) / old;
    }
  }
  return { weights, starts, taps, reach };
}

function windowedSinc(time) {
  const within = Math.min(Math.max(time, -ZERO_CROSSINGS), ZERO_CROSSINGS);
  const sinc = within === 0 ? 1 : Math.sin(Math.PI * within) / (Math.PI * within);
  return sinc * Math.cos((within * Math.PI) / ZERO_CROSSINGS / 2) ** 2;
}

/** The fraction closest to p / q whose denominator is at most LARGEST_RATIO: [numerator, denominator]. */
export function closestFraction(p, q) {
  const divisor = greatestDivisor(p, q);
  const [top, bottom] = [p / divisor, q / divisor];
  if (bottom <= LARGEST_RATIO) return [top, bottom];
  let [p0, q0, p1, q1, n, d] = [0, 1, 1, 0, top, bottom];
  for (;;) {
    const a = Math.floor(n / d);
    if (q0 + a * q1 > LARGEST_RATIO) break;
    [p0, q0, p1, q1, n, d] = [p1, q1, p0 + a * p1, q0 + a * q1, d, n - a * d];
  }
  const k = Math.floor((LARGEST_RATIO - q0) / q1);
  const bound = [p0 + k * p1, q0 + k * q1];
  const distance = ([num, den]) => Math.abs(num / den - top / bottom);
  return distance([p1, q1]) <= distance(bound) ? [p1, q1] : bound;
}

function greatestDivisor(a, b) {
  return b ? greatestDivisor(b, a % b) : a;
}

/** Several Float32Arrays, one after the other. */
export function concatenate(...parts) {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}
