// Plays a part of a recording, of any format that the page can judge.

import { mix, openParts } from "./audio.js";
import { resample } from "./resample.js";

const PLAYABLE = [8_000, 96_000]; // Hz that every browser plays
const FADE = 0.005; // s at both ends, against clicks
let context, playing, opened;

/** Plays `file` from `start` to `end` in s, instead of what was playing. */
export async function play(file, start, end) {
  context ??= new AudioContext();
  stop();
  const request = (playing = {});
  if (opened?.file !== file) opened = { file, source: openParts(file) };
  const source = await opened.source;
  const first = Math.round(start * source.rate);
  const samples = mix(await source.read(first, Math.round(end * source.rate) - first));
  await context.resume();
  if (playing === request) playing = begin(...asPlayable(samples, source.rate)); // else another one came meanwhile
}

/** Ends what is playing. */
export function stop() {
  playing?.stop?.();
  playing = undefined;
}

function asPlayable(samples, rate) {
  if (rate < PLAYABLE[0]) return [resample(samples, 1, 4), rate * 4];
  const factor = Math.ceil(rate / PLAYABLE[1]);
  return factor > 1 ? [resample(samples, factor, 1), rate / factor] : [samples, rate];
}

function begin(samples, rate) {
  const fade = Math.min(Math.round(FADE * rate), samples.length / 2);
  for (let i = 0; i < fade; i++) {
    samples[i] *= i / fade;
    samples[samples.length - 1 - i] *= i / fade;
  }
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const node = new AudioBufferSourceNode(context, { buffer });
  node.connect(context.destination);
  node.start();
  return node;
}
