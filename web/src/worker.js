// Scores recordings away from the page, which stays responsive: it is sent a recording block by block.
//
// Each message { id, step, ... } is answered by { id, result } or { id, error }: "load", then for each recording
// "begin", "block" as often as needed, and "end". Memory does not grow with the recording, but for the scores.

import { Detector, mean, probability, reasonToAbstain } from "./detector.js";
import { Resampler } from "./resample.js";
import { Spectrogram } from "./mel.js";
import { Pieces, cutWindows, findSounds } from "./windows.js";

const BATCH = 8; // windows that are scored at once
let detector, recording;

const steps = {
  async load({ wasm, model, figures }) {
    detector = await Detector.load(wasm, model, figures);
  },

  async begin({ rate, frames }) {
    const { sample_rate, piece_samples } = detector.figures;
    recording = {
      resampler: new Resampler(rate, sample_rate),
      pieces: new Pieces(piece_samples),
      spectrogram: new Spectrogram(Math.ceil((frames * sample_rate) / rate), sample_rate),
      samples: 0, // of the pieces that were cut
      sounding: 0, // samples from the first to the last of each sound
      batch: [],
      scored: [],
    };
  },

  async block({ samples }) {
    await take(recording.resampler.push(samples));
    return recording.scored.length;
  },

  async end() {
    await take(recording.resampler.end());
    await cut(recording.pieces.end());
    await scoreBatch();
    return finish();
  },
};

async function take(samples) {
  recording.spectrogram.push(samples);
  await cut(recording.pieces.push(samples));
}

async function cut(pieces) {
  const { clip_samples, hop_samples } = detector.figures;
  for (const piece of pieces) {
    const sounds = findSounds(piece, clip_samples);
    recording.sounding += sounds.reduce((sum, [start, end]) => sum + end - start, 0);
    for (const { start, length, samples } of cutWindows(piece, sounds, clip_samples, hop_samples)) {
      recording.batch.push({ start: recording.samples + start, length, samples });
      if (recording.batch.length === BATCH) await scoreBatch();
    }
    recording.samples += piece.length;
  }
}

async function scoreBatch() {
  const { batch, scored } = recording;
  if (!batch.length) return;
  const results = await detector.score(batch.map(({ samples }) => samples));
  results.forEach((result, i) => scored.push({ start: batch[i].start, length: batch[i].length, ...result }));
  recording.batch = [];
}

/** What the detector says of the recording: the fields of dfa_utils.inference.Prediction, and the spectrogram. */
function finish() {
  const { scored, samples, sounding, spectrogram } = recording;
  const { figures } = detector;
  const inSeconds = (count) => count / figures.sample_rate;
  if (!scored.length) throw new Error("silent throughout, so there is nothing to judge; leave it out");
  const logits = scored.map(({ logit }) => logit);
  if (!logits.every(Number.isFinite)) throw new Error("gives no finite score; look for NaN or absurd samples in it");
  return {
    score: probability(mean(logits), inSeconds(sounding), figures),
    seconds: inSeconds(samples),
    times: scored.map(({ start }) => inSeconds(start)),
    ends: scored.map(({ start, length }) => inSeconds(start + length)),
    scores: scored.map(({ logit, length }) => probability(logit, inSeconds(length), figures)),
    reason: reasonToAbstain(
      scored.map(({ measures }) => measures),
      inSeconds(sounding),
      figures,
    ),
    spectrogram: spectrogram.result(),
  };
}

onmessage = async ({ data }) => {
  try {
    postMessage({ id: data.id, result: await steps[data.step](data) });
  } catch (error) {
    postMessage({ id: data.id, error: error.message ?? String(error) });
  }
};
postMessage({ id: 0 }); // it listens now
