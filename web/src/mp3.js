// Decodes MP3 part by part with mpg123, which is what Python's libsndfile does. Browsers round MP3 to 16 bits.

import { concatenate } from "./resample.js";

const PART = 65_536; // bytes

/** The samples of an MP3 File in blocks of `size` samples, each a Float32Array a channel; none where it is no MP3. */
export async function* mp3Blocks(file, size) {
  const decoder = await makeDecoder();
  let held = [new Float32Array(0), new Float32Array(0)];
  try {
    for (let at = 0; at < file.size; at += PART) {
      const bytes = new Uint8Array(await file.slice(at, at + PART).arrayBuffer());
      const { channelData } = decoder.decode(bytes);
      held = held.map((samples, c) => concatenate(samples, channelData[c]));
      for (; held[0].length >= size; held = held.map((samples) => samples.slice(size))) {
        yield held.map((samples) => samples.slice(0, size));
      }
    }
  } finally {
    decoder.free();
  }
  if (held[0].length) yield held;
}

async function makeDecoder() {
  await import("../lib/mpg123-decoder.min.js");
  const decoder = new globalThis["mpg123-decoder"].MPEGDecoder();
  await decoder.ready;
  return decoder;
}
