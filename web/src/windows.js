// What of a recording is judged: windows of one length without digital silence, as dfa_utils/windows.py cuts them.
//
// Digital silence: samples that stay constant, to one step of 16 bits, for at least RUN samples. Outside a recording
// all samples count as 0, so at its two ends zeros are silence however few they are.

import { concatenate } from "./resample.js";

const CONSTANT = 3 / 32768; // peak to peak, below which samples count as constant
const RUN = 128; // samples that must stay constant: 8 ms at 16 kHz

/**
 * The windows of consecutive blocks [T], `hop` samples apart, each { start, samples [size] }, start in samples.
 *
 * The first window of a sound begins with its first sample that is no digital silence, the last one ends with its
 * last; a silent pause as long as a window parts two sounds. A sound shorter than `size` is repeated to fill one
 * window. `samples` counts all that came by, `sounding` those from the first to the last of each sound that has ended.
 */
export class Windows {
  constructor(size, hop) {
    Object.assign(this, { size, hop, samples: 0, sounding: 0, sound: null, finder: new AudibleFinder() });
  }

  *push(block) {
    for (let start = 0; start < block.length; start += this.size) {
      yield* this.take(this.finder.push(block.subarray(start, start + this.size)));
    }
  }

  *end() {
    yield* this.take(this.finder.end());
    if (this.sound) yield* this.close();
  }

  *take({ block, audible }) {
    const first = audible.indexOf(1);
    if (this.sound && this.samples + (first < 0 ? block.length : first) - this.sound.end >= this.size) {
      yield* this.close();
    }
    if (first >= 0) {
      const skipped = this.sound ? 0 : first;
      this.sound ??= new Sound(this.size, this.hop, this.samples + skipped);
      this.sound.add(block.subarray(skipped), this.samples + audible.lastIndexOf(1) + 1);
      yield* this.sound.windows();
    } else if (this.sound) {
      this.sound.add(block, this.sound.end);
    }
    this.samples += block.length;
  }

  *close() {
    const { sound } = this;
    this.sounding += sound.end - sound.first;
    this.sound = null;
    yield* sound.rest();
  }
}

/** What is between two pauses: held [T] from sample `begin` on, in which the last sound ends at sample `end`. */
class Sound {
  constructor(size, hop, first) {
    Object.assign(this, { size, hop, first, held: new Float32Array(0), begin: first, next: first, end: first });
  }

  add(block, end) {
    this.held = concatenate(this.held, block);
    this.end = end;
  }

  /** The windows that end before `end` and were not cut yet; the samples before the last one are let go. */
  *windows() {
    for (; this.next + this.size <= this.end; this.next += this.hop) {
      this.held = this.held.slice(this.next - this.begin);
      this.begin = this.next;
      yield { start: this.begin, samples: this.held.slice(0, this.size) };
    }
  }

  /** The last window, unless there is one that ends there; or the whole, repeated, if it is shorter. */
  *rest() {
    const held = this.held.subarray(0, this.end - this.begin);
    if (this.end - this.first < this.size) {
      yield { start: this.first, samples: Float32Array.from({ length: this.size }, (_, i) => held[i % held.length]) };
    } else if (this.begin + this.size < this.end) {
      yield { start: this.end - this.size, samples: held.slice(-this.size) };
    }
  }
}

/** Tells of each sample whether it is audible; blocks are cut anew, since each needs RUN - 1 others around it. */
class AudibleFinder {
  constructor() {
    this.held = new Float32Array(RUN - 1); // context, then the samples that were not passed on yet
  }

  /** { block [T], audible [T] of 0 and 1 }; T may be 0. */
  push(block) {
    this.held = concatenate(this.held, block);
    const ready = Math.max(0, this.held.length - 2 * (RUN - 1));
    const found = { block: this.held.slice(RUN - 1, RUN - 1 + ready), audible: findAudible(this.held, ready) };
    this.held = this.held.slice(ready);
    return found;
  }

  end() {
    return this.push(new Float32Array(RUN - 1));
  }
}

/** Whether each of the `count` samples after the first RUN - 1 lies in no run of RUN samples that is constant. */
function findAudible(samples, count) {
  const audible = new Uint8Array(count).fill(1);
  if (!count) return audible;
  let [highest, lowest] = [samples, samples];
  for (let step = 1; step < RUN; step *= 2) {
    const length = highest.length - step;
    const [higher, lower] = [new Float32Array(length), new Float32Array(length)];
    for (let i = 0; i < length; i++) {
      higher[i] = Math.max(highest[i], highest[i + step]);
      lower[i] = Math.min(lowest[i], lowest[i + step]);
    }
    [highest, lowest] = [higher, lower];
  }
  let constant = -1; // the last run, by its first sample, that is constant
  for (let i = 0; i < highest.length; i++) {
    if (Math.fround(highest[i] - lowest[i]) < CONSTANT) constant = i;
    const sample = i - (RUN - 1); // of which run i is the last that holds it
    if (sample >= 0 && constant >= sample) audible[sample] = 0;
  }
  return audible;
}
