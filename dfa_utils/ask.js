// A file chooser and a recorder: what the reader gives goes to Python as bytes.
const SECONDS = 5;
const LARGEST = 8_000_000; // bytes; a longer message would be cut off by Jupyter

async function record(seconds) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  await new Promise((done) => {
    recorder.onstop = done;
    recorder.stop();
  });
  stream.getTracks().forEach((track) => track.stop());
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
  context.close();
  return { samples: sound.getChannelData(0), rate: sound.sampleRate };
}

function render({ model, el }) {
  const chooser = document.createElement("input");
  chooser.type = "file";
  chooser.accept = "audio/*,video/*";
  chooser.setAttribute("aria-label", "Choose a recording");
  const button = document.createElement("button");
  button.textContent = `Record ${SECONDS} seconds`;
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  chooser.onclick = () => (chooser.value = ""); // so that the same file can be chosen again
  chooser.onchange = async () => {
    const file = chooser.files[0];
    if (!file) return;
    if (file.size > LARGEST) {
      status.textContent = `${file.name} is larger than 8 MB: give its path in MY_FILE instead.`;
      return;
    }
    status.textContent = `Judging ${file.name} ...`;
    model.send({ name: file.name }, undefined, [await file.arrayBuffer()]);
  };
  button.onclick = async () => {
    button.disabled = true;
    status.textContent = `Recording: speak for ${SECONDS} seconds ...`;
    try {
      const { samples, rate } = await record(SECONDS);
      status.textContent = "Judging the recording ...";
      model.send({ name: "recording.wav", rate }, undefined, [samples.buffer]);
    } catch (error) {
      status.textContent = `No recording: ${error.message}. Allow the microphone for this page, or choose a file.`;
    }
    button.disabled = false;
  };
  model.on("msg:custom", () => (status.textContent = ""));
  el.append(chooser, button, status);
}

export default { render };
