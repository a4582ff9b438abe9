// The exported detector in onnxruntime: windows in, the logit of P(fake) and the measures of speech out.

import * as ort from "../lib/ort.wasm.bundle.min.mjs";

/** An onnxruntime session of the graph in `model`, by the runtime in `wasm` (both ArrayBuffer), in this thread. */
export class Detector {
  static async load(wasm, model, figures) {
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = 1; // more would need headers that a static host cannot set
    ort.env.logLevel = "error";
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    const detector = Object.assign(new Detector(), { session, figures });
    await detector.score([new Float32Array(figures.clip_samples)]); // the first call takes longer than others
    return detector;
  }

  /** [{ logit, measures [3] }] of windows, each a Float32Array [clip_samples] at figures.sample_rate Hz. */
  async score(windows) {
    const size = this.figures.clip_samples;
    const data = new Float32Array(windows.length * size);
    windows.forEach((window, i) => data.set(window, i * size));
    const waveform = new ort.Tensor("float32", data, [windows.length, size]);
    const { logit, measures } = await this.session.run({ waveform }, ["logit", "measures"]);
    return windows.map((_, i) => ({ logit: logit.data[i], measures: measures.data.slice(3 * i, 3 * i + 3) }));
  }
}

/**
 * Why a recording should not be judged, or "", as dfa_utils/speech.py says it.
 *
 * `measures` of its windows, each the logit of "no speech", the share that sounds, and the level in dB of high frequencies;
 * `seconds` is how much of the recording sounds; the limits are those of Python, in `figures`.
 */
export function reasonToAbstain(measures, seconds, { limit, speech }) {
  const share = mean(measures.map(([, sounding]) => sounding));
  if (share * seconds < speech.least_seconds) return `less than ${speech.least_seconds} s of sound, too little to judge`;
  if (mean(measures.map(([unlike]) => Number(unlike < limit))) < speech.least_share) {
    return "no clear speech in it, but strong noise, tones or music";
  }
  if (measures.every(([, , high]) => high < speech.nothing)) {
    return `nothing above ${speech.high / 1000} kHz, as on a telephone, which cuts off most traces of synthesis`;
  }
  return "";
}

/** The mean of an array of numbers. */
export function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

/** P(fake) in [0, 1] of a logit that rests on `seconds` of sound, as dfa_utils.inference.calibrated_logit. */
export function probability(logit, seconds, { calibration: [slope, offset, half] }) {
  return 1 / (1 + Math.exp(-(offset + (slope * logit) / (1 + half / seconds))));
}
