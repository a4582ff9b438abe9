// Records with the microphone: plain samples, since a browser's compressed recording would lose what is looked for.

import { toWav } from "./wav.js";

export const LONGEST = 60; // s
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** A recording that has begun: stop() gives its File. Throws an Error in one sentence without a microphone. */
export async function startRecording() {
  const stream = await openMicrophone();
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  const parts = [];
  node.port.onmessage = ({ data }) => parts.push(data);
  context.createMediaStreamSource(stream).connect(node);
  return { stop: () => finish(stream, context, parts) };
}

async function openMicrophone() {
  if (!navigator.mediaDevices)
    throw new Error("this page may use no microphone; open it by https, or from this computer");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
  } catch (error) {
    throw new Error(`no microphone can be used (${error.message}); connect one, and allow this page to use it`);
  }
}

async function finish(stream, context, parts) {
  for (const track of stream.getTracks()) track.stop();
  const rate = context.sampleRate;
  await context.close();
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return new File([toWav(join(parts), rate)], `recording-${time}.wav`, { type: "audio/wav" });
}

function join(parts) {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}
