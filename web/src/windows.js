// What of a recording is judged: windows of one length without digital silence, as dfa_utils/windows.py cuts them.
//
// Digital silence: samples that stay constant, to one step of 16 bits, for at least RUN samples. Outside of what is
// searched all samples count as 0, so zeros at its two ends are silence even if they are few.

import { concatenate } from "./resample.js";

const CONSTANT = 3 / 32768; // peak to peak, below which samples count as constant
const RUN = 128; // samples that must stay constant: 8 ms at 16 kHz

/** Joins blocks, Float32Array [T], and cuts them into pieces of `size` samples; the last has up to twice as many. */
export class Pieces {
  constructor(size) {
    Object.assign(this, { size, held: [], count: 0 });
  }

  /** The pieces that are complete once this block is there. */
  *push(block) {
    this.held.push(block);
    this.count += block.length;
    if (this.count < 2 * this.size) return;
    const joined = concatenate(...this.held);
    const end = (Math.floor(this.count / this.size) - 1) * this.size;
    for (let start = 0; start < end; start += this.size) yield joined.subarray(start, start + this.size);
    this.held = [joined.slice(end)];
    this.count -= end;
  }

  /** The last piece, unless there was no sample at all. */
  *end() {
    if (this.count) yield concatenate(...this.held);
  }
}

/** [first sample, sample after the last] of each sound in [T]; a silence of `pause` samples separates two. */
export function findSounds(samples, pause) {
  const audible = findAudible(samples);
  const sounds = [];
  for (let i = 0; i < samples.length; i++) {
    if (!audible[i]) continue;
    if (sounds.length && i - sounds.at(-1)[1] < pause) sounds.at(-1)[1] = i + 1;
    else sounds.push([i, i + 1]);
  }
  return sounds;
}

/**
 * The windows of the sounds in [T], `hop` samples apart, each { start, length in samples, samples [size] }.
 *
 * The first window of a sound begins with it, the last one ends with it; a sound shorter than `size` is repeated to
 * fill one window, and `length` is its own.
 */
export function* cutWindows(samples, sounds, size, hop) {
  for (const [start, end] of sounds) {
    const sound = samples.subarray(start, end);
    if (sound.length < size) {
      const samples = Float32Array.from({ length: size }, (_, i) => sound[i % sound.length]);
      yield { start, length: sound.length, samples };
      continue;
    }
    const last = sound.length - size;
    for (let at = 0; at < last; at += hop)
      yield { start: start + at, length: size, samples: sound.subarray(at, at + size) };
    yield { start: start + last, length: size, samples: sound.subarray(last) };
  }
}

/** Whether each of [T] is in no run of RUN samples that is constant: [T] of 0 and 1. */
function findAudible(samples) {
  const padded = new Float32Array(samples.length + 2 * (RUN - 1));
  padded.set(samples, RUN - 1);
  let [highest, lowest] = [padded, padded]; // over 1, 2, 4 ... RUN samples from each on
  for (let step = 1; step < RUN; step *= 2) {
    const length = highest.length - step;
    const [higher, lower] = [new Float32Array(length), new Float32Array(length)];
    for (let i = 0; i < length; i++) {
      higher[i] = Math.max(highest[i], highest[i + step]);
      lower[i] = Math.min(lowest[i], lowest[i + step]);
    }
    [highest, lowest] = [higher, lower];
  }
  const audible = new Uint8Array(samples.length).fill(1);
  for (let i = 0, silentUntil = 0; i < highest.length; i++) {
    if (Math.fround(highest[i] - lowest[i]) < CONSTANT) silentUntil = i + 1; // the run that begins at i
    const first = i - (RUN - 1);
    if (first >= 0 && first < silentUntil) audible[first] = 0;
  }
  return audible;
}
