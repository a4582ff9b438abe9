// From a file to samples: mono blocks at the file's own sample rate, as dfa_utils/audio.py reads them.

import { mp3Blocks } from "./mp3.js";
import { sniff } from "./rates.js";
import { openWav } from "./wav.js";

export const LIMITS = { minutes: 30, megabytes: 500 };
const UNKNOWN_MEGABYTES = 50; // of a compressed file that does not tell its length
const BLOCK_SECONDS = 30; // that are mixed at once
const LARGEST_BLOCK = 2 ** 25; // samples of all channels at once
const RATES = [4_000, 768_000]; // Hz; no recording of speech has less, no recorder more
const LARGEST = 1e6; // 120 dB above full scale: a float file with more holds no sound
const CANCELLED = 0.01; // power of the channels' mean, relative to the loudest, below which they cancel each other

/**
 * Opens a File to be judged: { rate in Hz, frames, blocks(): its samples in blocks of 30 s, an array a channel }.
 *
 * `frames` is an estimate for MP3. Throws an Error whose message is one sentence for a file that cannot be judged.
 */
export async function openAudio(file) {
  await refuseUnreadable(file);
  const source = (await openWav(file)) ?? (await openMp3(file)) ?? (await openAny(file));
  if (source.rate < RATES[0] || source.rate > RATES[1]) {
    throw new Error(
      `its header says ${source.rate} Hz, but recordings of speech have ${RATES[0]} to ${RATES[1]} Hz; export it again`,
    );
  }
  if (!source.frames) throw new Error("the file holds no samples; record or export it again");
  refuseLong(source.frames / source.rate);
  return { blocks: () => blocksOf(source), ...source };
}

/** Opens a File to be heard in parts: { rate in Hz, read(start, count) -> promise of a Float32Array a channel }. */
export async function openParts(file) {
  return (await openWav(file)) ?? openAny(file);
}

async function refuseUnreadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error("cannot be read; choose a file, not a folder, and one that has not changed since it was chosen");
  }
  if (!file.size) throw new Error("the file is empty (0 bytes); copy or record it again");
  if (file.size > LIMITS.megabytes * 1e6) {
    throw new Error(`larger than ${LIMITS.megabytes} MB, the limit of this page; cut it into parts`);
  }
}

function refuseLong(seconds) {
  if (seconds > LIMITS.minutes * 60) {
    const minutes = Math.round(seconds / 60);
    throw new Error(
      `lasts ${minutes} minutes, more than the ${LIMITS.minutes} that this page takes; cut it into parts`,
    );
  }
}

async function openMp3(file) {
  const { mp3, rate, start } = await sniff(file);
  if (!mp3) return null;
  const seconds = await toldDuration(file);
  if (!Number.isFinite(seconds)) return null;
  const blocks = () => mp3Blocks(file.slice(start), BLOCK_SECONDS * rate, rate);
  return { rate, frames: Math.ceil(seconds * rate), blocks };
}

async function openAny(file) {
  const { rate } = await sniff(file);
  refuseLongBeforeDecoding(file, await toldDuration(file));
  const buffer = await decode(await file.arrayBuffer(), rate);
  const read = async (start, count) =>
    Array.from({ length: buffer.numberOfChannels }, (_, c) => buffer.getChannelData(c).subarray(start, start + count));
  return { rate, channels: buffer.numberOfChannels, frames: buffer.length, read };
}

async function decode(bytes, rate) {
  try {
    return await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    throw new Error("this browser finds no audio in it that it can read; convert it to wav, or leave it out");
  }
}

/** A few megabytes can promise hours of sound, which would fill memory once decoded. */
function refuseLongBeforeDecoding(file, seconds) {
  if (Number.isFinite(seconds)) refuseLong(seconds);
  else if (file.size > UNKNOWN_MEGABYTES * 1e6) {
    throw new Error(`does not say how long it is, and is larger than ${UNKNOWN_MEGABYTES} MB; convert it to wav`);
  }
}

/** What the file says of its length in s; NaN or Infinity where it says nothing. */
async function toldDuration(file) {
  const player = new Audio();
  player.preload = "metadata";
  player.src = URL.createObjectURL(file);
  await new Promise((resolve) => (player.onloadedmetadata = player.onerror = resolve));
  URL.revokeObjectURL(player.src);
  return player.duration;
}

async function* blocksOf({ rate, channels, frames, read }) {
  const size = Math.max(1, Math.min(BLOCK_SECONDS * rate, Math.floor(LARGEST_BLOCK / channels)));
  for (let start = 0; start < frames; start += size) yield read(start, Math.min(size, frames - start));
}

/** The samples of an opened file in consecutive mono blocks of about 30 s, Float32Array [T]; throws as openAudio. */
export async function* monoBlocks(source) {
  for await (const channels of source.blocks()) {
    const block = mix(channels);
    if (!block.every((sample) => Math.abs(sample) < LARGEST)) {
      throw new Error("holds samples that are NaN, infinite or absurd; export it again as 16-bit wav");
    }
    yield block;
  }
}

/** The channels' mean, or the loudest of them where the mean has hardly any power left. */
export function mix(channels) {
  if (channels.length === 1) return Float32Array.from(channels[0]);
  const mean = new Float32Array(channels[0].length);
  for (let i = 0; i < mean.length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    mean[i] = sum / channels.length;
  }
  const powers = channels.map(power);
  const loudest = Math.max(...powers);
  return power(mean) < CANCELLED * loudest ? Float32Array.from(channels[powers.indexOf(loudest)]) : mean;
}

function power(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return sum / samples.length;
}
