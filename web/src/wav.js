// Reads WAV files block by block, of any sample rate, exactly: browsers round 8 and 24 bits, and refuse some rates.

import { sizeOfTag, text, view } from "./rates.js";

const UNKNOWN_LENGTH = 0x7ffff000; // data sizes from here on are what writers into a pipe put, who do not know it
const EXTENSIBLE = 0xfffe;
const FORMAT = 26; // bytes of the chunk "fmt " that are read, with the first that follow a short one
const TOLERATED = 0.1; // s of sound that a header may promise in vain; players do not mind either
const MOST_CHUNKS = 1_000; // before that of the samples; no recorder writes more
const READERS = {
  // by format and bits: a sample of a DataView at a byte, full scale = 1
  "1/8": (data, i) => (data.getUint8(i) - 128) / 128,
  "1/16": (data, i, little) => data.getInt16(i, little) / 2 ** 15,
  "1/24": (data, i, little) => {
    const [low, high] = little ? [i, i + 2] : [i + 2, i];
    return (data.getInt8(high) * 65_536 + data.getUint8(i + 1) * 256 + data.getUint8(low)) / 2 ** 23;
  },
  "1/32": (data, i, little) => data.getInt32(i, little) / 2 ** 31,
  "3/32": (data, i, little) => data.getFloat32(i, little),
  "3/64": (data, i, little) => data.getFloat64(i, little),
  "6/8": (data, i) => fromALaw(data.getUint8(i)),
  "7/8": (data, i) => fromMuLaw(data.getUint8(i)),
};

/**
 * A WAV File, to be read in parts: { rate in Hz, channels, frames, read(start, count) -> a Float32Array a channel }.
 *
 * null where it is no WAV, or of a kind that is not read here. Throws an Error in one sentence for one that is cut off.
 */
export async function openWav(tagged) {
  const file = tagged.slice(await sizeOfTag(tagged));
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  if (!["RIFF", "RIFX", "RF64"].includes(text(head, 0, 4)) || text(head, 8, 4) !== "WAVE") return null;
  const little = text(head, 0, 4) !== "RIFX"; // where the bytes of numbers come in the other order
  const { format, data } = await findChunks(file, little);
  if (!data || !(format?.length >= 16)) return null;
  const fields = view(format);
  const extended = fields.getUint16(0, little) === EXTENSIBLE && fields.byteLength === FORMAT;
  const code = fields.getUint16(extended ? 24 : 0, little);
  const [channels, bits] = [2, 14].map((at) => fields.getUint16(at, little));
  const rate = fields.getUint32(4, little);
  const sample = READERS[`${code}/${bits}`];
  if (!sample || !channels) return null;
  const frame = (channels * bits) / 8;
  refuseTruncated(data, file.size, TOLERATED * rate * frame);
  const size = data.size || Infinity; // 0: the recorder was stopped before it could write it
  const frames = Math.floor(Math.min(size, file.size - data.start) / frame);
  const read = (start, count) => readFrames(file, data.start, { channels, bits, sample, little }, start, count);
  return { rate, channels, frames, read };
}

/** The bytes of the chunk "fmt ", and where the chunk "data" starts and how long it says it is. */
async function findChunks(file, little) {
  const found = {};
  for (let [at, count] = [12, 0]; at + 8 <= file.size && count < MOST_CHUNKS && !found.data; count++) {
    const head = new Uint8Array(await file.slice(at, at + 8).arrayBuffer());
    const [name, size] = [text(head, 0, 4), view(head).getUint32(4, little)];
    if (name === "data") found.data = { start: at + 8, size };
    if (name === "fmt ") found.format = new Uint8Array(await file.slice(at + 8, at + 8 + FORMAT).arrayBuffer());
    at += 8 + size + (size % 2);
  }
  return found;
}

function refuseTruncated({ start, size }, fileSize, tolerated) {
  const held = fileSize - start;
  if (held + tolerated <= size && size < UNKNOWN_LENGTH) {
    throw new Error(`truncated: its header promises ${size} bytes of audio, it holds ${held}; fetch the file again`);
  }
}

async function readFrames(file, from, { channels, bits, sample, little }, start, count) {
  const bytes = bits / 8;
  const frame = channels * bytes;
  const data = new DataView(await file.slice(from + start * frame, from + (start + count) * frame).arrayBuffer());
  const frames = Math.floor(data.byteLength / frame);
  return Array.from({ length: channels }, (_, channel) => {
    const out = new Float32Array(frames);
    for (let i = 0; i < frames; i++) out[i] = sample(data, i * frame + channel * bytes, little);
    return out;
  });
}

function fromALaw(byte) {
  const code = byte ^ 0x55;
  const exponent = (code >> 4) & 7;
  const size = ((code & 15) << 4) + (exponent ? 0x108 : 8);
  const scaled = exponent > 1 ? size << (exponent - 1) : size;
  return (code & 0x80 ? scaled : -scaled) / 2 ** 15;
}

function fromMuLaw(byte) {
  const code = ~byte & 0xff;
  const size = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
  return (code & 0x80 ? -size : size) / 2 ** 15;
}

/** A WAV file, 32-bit float, one channel, of samples [T] at `rate` Hz, as a Blob. */
export function toWav(samples, rate) {
  const head = new DataView(new ArrayBuffer(44));
  const put = (at, letters) => [...letters].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  const bytes = samples.length * 4;
  put(0, "RIFF");
  head.setUint32(4, 36 + bytes, true);
  put(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 3, true); // float
  head.setUint16(22, 1, true); // channel
  head.setUint32(24, rate, true);
  head.setUint32(28, rate * 4, true);
  head.setUint16(32, 4, true);
  head.setUint16(34, 32, true);
  put(36, "data");
  head.setUint32(40, bytes, true);
  return new Blob([head, samples], { type: "audio/wav" });
}
