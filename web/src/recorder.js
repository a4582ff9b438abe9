// Records with the microphone: plain samples, since a browser's compressed recording would lose the traces that are looked for.

import { concatenate } from "./resample.js";
import { toWav } from "./wav.js";

export const LONGEST_SECONDS = 60; // s
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
    throw new Error("this page may not use a microphone; open it over https, or on this computer");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
  } catch (error) {
    throw new Error(`no microphone is available (${error.message}); connect one, and allow this page to use it`);
  }
}

async function finish(stream, context, parts) {
  for (const track of stream.getTracks()) track.stop();
  const rate = context.sampleRate;
  await context.close();
  if (!parts.length) throw new Error("the browser gave no sound; check the sound devices, or use another browser");
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return new File([toWav(concatenate(...parts), rate)], `recording-${time}.wav`, { type: "audio/wav" });
}
