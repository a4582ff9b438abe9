// What the timeline and the spectrogram share: margins, and the axis of seconds below them.

import { svg } from "./dom.js";

export const MARGIN = { left: 44, right: 66, top: 10, bottom: 34 };
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600]; // s

/** Where a time in s lies in a picture `width` pixels wide that shows `seconds`. */
export function timeScale(seconds, width) {
  return (time) => MARGIN.left + (time / seconds) * (width - MARGIN.left - MARGIN.right);
}

/** Ticks and title of the axis of seconds, at `y` pixels. */
export function secondsAxis(seconds, width, y) {
  const x = timeScale(seconds, width);
  const most = (width - MARGIN.left - MARGIN.right) / 60; // ticks
  const step = STEPS.find((size) => seconds / size <= most) ?? STEPS.at(-1);
  const times = Array.from({ length: Math.floor(seconds / step + 1e-6) + 1 }, (_, i) => i * step);
  return [
    ...times.map((time) => svg("line", { x1: x(time), x2: x(time), y1: y, y2: y + 4, class: "axis" })),
    ...times.map((time) => svg("text", { x: x(time), y: y + 16, class: "middle" }, String(+time.toFixed(1)))),
    svg("text", { x: width - MARGIN.right, y: y + 31, class: "end" }, "time (s)"),
  ];
}
