// Decodes MP3 part by part with mpg123, which is what Python's libsndfile does. Browsers round MP3 to 16 bits.

import { findBeginnings } from "./rates.js";
import { Resampler, concatenate } from "./resample.js";

const PART = 65_536; // bytes that are read at once
const STEP = 1_024; // bytes that are decoded at once: all that is decoded then has one sample rate

/**
 * The samples of an MP3 File at `rate` Hz in blocks of `size` samples, each a Float32Array a channel.
 *
 * Files that were joined are decoded one by one, each at its own sample rate. No blocks where it is no MP3.
 */
export async function* mp3Blocks(file, size, rate) {
  const [decoder, joined, begin] = [await makeDecoder(), new Joined(rate), await findBeginnings(file)];
  try {
    for (const [i, start] of begin.entries()) {
      if (i) await decoder.reset();
      for await (const bytes of partsOf(file.slice(start, begin[i + 1]))) {
        joined.push(decoder.decode(bytes));
        for (let block; (block = joined.take(size)); ) yield block;
      }
    }
  } finally {
    decoder.free();
  }
  joined.end();
  while (joined.length) yield joined.take(Math.min(size, joined.length));
}

async function* partsOf(file) {
  for (let at = 0; at < file.size; at += PART) {
    const bytes = new Uint8Array(await file.slice(at, at + PART).arrayBuffer());
    for (let i = 0; i < bytes.length; i += STEP) yield bytes.subarray(i, i + STEP);
  }
}

/** What was decoded, of any sample rates, as samples at one `rate`, two channels. */
class Joined {
  constructor(rate) {
    Object.assign(this, { rate, parts: [[], []], length: 0 });
  }

  push({ channelData, samplesDecoded, sampleRate }) {
    if (!samplesDecoded) return;
    if (sampleRate !== this.given) {
      this.end();
      this.given = sampleRate;
      this.resamplers = this.parts.map(() => new Resampler(sampleRate, this.rate));
    }
    this.add(this.resamplers.map((resampler, c) => resampler.push(channelData[c])));
  }

  /** Adds what is left of the part that was pushed last. */
  end() {
    if (this.resamplers) this.add(this.resamplers.map((resampler) => resampler.end()));
  }

  add(channels) {
    channels.forEach((samples, c) => this.parts[c].push(samples));
    this.length += channels[0].length;
  }

  /** The first `size` samples of each channel, which are removed; null where there are fewer. */
  take(size) {
    if (this.length < size) return null;
    const channels = this.parts.map((parts) => concatenate(...parts));
    this.parts = channels.map((samples) => [samples.slice(size)]);
    this.length -= size;
    return channels.map((samples) => samples.slice(0, size));
  }
}

async function makeDecoder() {
  await import("../lib/mpg123-decoder.min.js");
  const decoder = new globalThis["mpg123-decoder"].MPEGDecoder();
  await decoder.ready;
  return decoder;
}
