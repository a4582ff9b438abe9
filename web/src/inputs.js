// The sources of recordings other than the file chooser: the microphone, the examples, files that are dropped.

import { element } from "./dom.js";
import { LONGEST_SECONDS, startRecording } from "./recorder.js";

/** Lets a button begin and end a recording, which `judge` is called with; `tell` says what goes on. */
export function offerRecording(button, judge, tell) {
  const title = button.textContent;
  const record = async () => {
    try {
      button.disabled = true;
      const recording = await startRecording();
      tell(`Recording: speak for a few seconds, at most ${LONGEST_SECONDS}. Then press the same button again.`);
      await untilPressed(button, "Stop and judge");
      judge([await recording.stop()]);
    } catch (error) {
      tell(`Nothing was recorded: ${error.message}.`);
    }
    Object.assign(button, { disabled: false, textContent: title, onclick: record });
  };
  button.onclick = record;
}

function untilPressed(button, title) {
  return new Promise((resolve) => {
    Object.assign(button, { disabled: false, textContent: title, onclick: resolve });
    button.focus(); // which it lost while it was disabled
    setTimeout(resolve, LONGEST_SECONDS * 1000);
  });
}

/** Fills `place` with a button for each example of the build, which `judge` is called with. */
export async function showExamples(place, judge) {
  const examples = await (await fetch("examples/list.json")).json();
  place.replaceChildren(
    ...examples.map(({ file, title }) => {
      const button = element("button", { type: "button" }, title);
      button.addEventListener("click", async () => {
        const response = await fetch(`examples/${file}`);
        judge([new File([await response.blob()], file, { type: "audio/wav" })]);
      });
      return button;
    }),
  );
}

/** Takes files that are dropped anywhere on the page; `zone` shows that it would. */
export function takeDrops(zone, judge) {
  const over = (event) => {
    event.preventDefault();
    zone.classList.toggle("over", event.type === "dragover");
  };
  for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, over);
  document.addEventListener("drop", (event) => judge(event.dataTransfer.files));
}
