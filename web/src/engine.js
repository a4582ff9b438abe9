// The page's side of the worker: loads the detector, and has recordings judged one after the other.

import { monoBlocks, openAudio } from "./audio.js";
import { labelOf, likelihoodRatio, supportOf } from "./verdict.js";

const PARTS = { figures: "detector.json", model: "detector.onnx", wasm: "lib/ort-wasm-simd-threaded.wasm" };

/** Why the detector could not be loaded, and the cure; pages that were opened as files may load nothing. */
export function explainFailure(error, protocol) {
  if (protocol === "file:") return "A page opened as a file cannot load the detector. Open it through a web server.";
  return `The detector could not be loaded: ${error.message}. Reload the page, or use a newer browser.`;
}

export class Engine {
  /** Loads the detector; `figures` are the metadata of the exported graph. Throws an Error in one sentence. */
  static async load() {
    const engine = new Engine();
    const [worker, figures, model, wasm] = await Promise.all([
      startWorker(),
      fetchPart(PARTS.figures, "json"),
      fetchPart(PARTS.model, "arrayBuffer"),
      fetchPart(PARTS.wasm, "arrayBuffer"),
    ]);
    Object.assign(engine, { worker, figures, asked: 0 });
    await engine.ask("load", { wasm, model, figures }, [wasm, model]);
    return engine;
  }

  /**
   * Judges a File: { name, seconds, score, label, ratio, support, reason, times, ends, scores, spectrogram, took in s },
   * or { name, error }.
   *
   * `onProgress` is called with the share that is done, in [0, 1].
   */
  async judge(file, onProgress = () => {}) {
    const [name, began] = [file.webkitRelativePath || file.name, performance.now()];
    try {
      const source = await openAudio(file);
      await this.ask("begin", { rate: source.rate, frames: source.frames });
      let done = 0;
      for await (const samples of monoBlocks(source)) {
        done += samples.length;
        await this.ask("block", { samples }, [samples.buffer]);
        onProgress(done / source.frames);
      }
      const result = await this.ask("end");
      const label = labelOf(result.score, this.figures, result.reason);
      const [ratio, support] = [likelihoodRatio, supportOf].map((find) => find(result, this.figures));
      return { name, ...result, label, ratio, support, took: (performance.now() - began) / 1000 };
    } catch (error) {
      return { name, error: error.message ?? String(error) };
    }
  }

  /** One step of the worker: a promise of its answer. */
  ask(step, message = {}, transfer = []) {
    const id = ++this.asked;
    this.worker.postMessage({ id, step, ...message }, transfer);
    return answer(this.worker, id);
  }
}

/** The worker is made from a blob, so that the page's Content-Security-Policy holds for it as well. */
async function startWorker() {
  const code = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
  await answer(worker, 0);
  return worker;
}

function answer(worker, id) {
  return new Promise((resolve, reject) => {
    const end = (settle, value) => {
      worker.removeEventListener("message", onMessage);
      worker.removeEventListener("error", onError);
      settle(value);
    };
    const onMessage = ({ data }) => {
      if (data.id === id) end(data.error ? reject : resolve, data.error ? new Error(data.error) : data.result);
    };
    const onError = (event) => end(reject, new Error(`the worker stopped (${event.message ?? "it was not found"})`));
    worker.addEventListener("message", onMessage);
    worker.addEventListener("error", onError);
  });
}

async function fetchPart(path, kind) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} is not there (${response.status})`);
  return response[kind]();
}
