// The score of every window over the recording; a window can be chosen with the mouse or the arrow keys, and heard.

import { MARGIN, secondsAxis, timeScale } from "./axes.js";
import { svg } from "./dom.js";
import { labelOf } from "./verdict.js";

const HEIGHT = 190;
const MANY = 150; // windows, from which on only their middles are drawn

/** The timeline of a result, `width` pixels wide: P(fake) against seconds, with uncertain band and threshold. */
export function drawTimeline(result, figures, width) {
  const { threshold, uncertain } = figures;
  const y = (score) => MARGIN.top + (1 - score) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const [from, to] = [MARGIN.left, width - MARGIN.right];
  const level = (value) => svg("text", { x: from - 6, y: y(value) + 4, class: "end" }, String(value));
  const band = uncertain ?? [threshold, threshold];
  return svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      class: "timeline",
      role: "img",
      "aria-label": summary(result),
    },
    svg("rect", { x: from, y: y(band[1]), width: to - from, height: y(band[0]) - y(band[1]), class: "band" }),
    svg("line", { x1: from, x2: to, y1: y(threshold), y2: y(threshold), class: "threshold" }),
    svg("text", { x: to + 4, y: y(threshold) + 4 }, "threshold"),
    svg("text", { x: to + 4, y: y(0.97) + 4 }, "fake"),
    svg("text", { x: to + 4, y: y(0.03) + 4 }, "real"),
    ...[0, 0.5, 1].map(level),
    svg("text", { x: 12, y: y(0.5), class: "middle", transform: `rotate(-90 12 ${y(0.5)})` }, "P(fake)"),
    svg("rect", { x: from, y: MARGIN.top, width: to - from, height: y(0) - MARGIN.top, class: "frame" }),
    svg("rect", { x: from, y: MARGIN.top, width: 0, height: y(0) - MARGIN.top, class: "chosen" }),
    ...drawWindows(result, figures, width, y),
    ...secondsAxis(result.seconds, width, y(0)),
  );
}

function drawWindows(result, figures, width, y) {
  const x = timeScale(result.seconds, width);
  return result.scores.flatMap((score, i) => {
    const [start, end] = windowOf(result, i);
    const label = labelOf(score, figures);
    const dot = svg("circle", {
      cx: x((start + end) / 2),
      cy: y(score),
      r: result.scores.length < MANY ? 4 : 2,
      class: `dot ${label}`,
    });
    const line = svg("line", { x1: x(start), x2: x(end), y1: y(score), y2: y(score), class: `span ${label}` });
    return result.scores.length < MANY ? [line, dot] : [dot];
  });
}

/** Start and end in s of a window. */
export function windowOf({ times, ends }, i) {
  return [times[i], ends[i]];
}

/** A window in words. */
export function describeWindow(result, figures, i) {
  const [start, end] = windowOf(result, i).map((time) => time.toFixed(1));
  const [score, count] = [result.scores[i], result.scores.length];
  return `Window ${i + 1} of ${count}: ${start} to ${end} s, P(fake) ${score.toFixed(3)}, ${labelOf(score, figures)}`;
}

function summary({ scores }) {
  const [least, most] = [Math.min(...scores), Math.max(...scores)].map((score) => score.toFixed(2));
  const windows = scores.length === 1 ? "window" : "windows";
  return `P(fake) of ${scores.length} ${windows} over time, from ${least} to ${most}`;
}

/** Lets the reader choose a window by click or arrow key, which calls `onChoose(i)`; `chosen` is where it begins. */
export function makeChoosable(picture, result, figures, chosen, onChoose) {
  const width = picture.viewBox.baseVal.width;
  const last = result.scores.length - 1;
  const show = (i) => {
    chosen = i;
    const [x1, x2] = windowOf(result, i).map(timeScale(result.seconds, width));
    const mark = picture.querySelector(".chosen");
    mark.setAttribute("x", x1);
    mark.setAttribute("width", x2 - x1);
    picture.setAttribute("aria-valuenow", i + 1);
    picture.setAttribute("aria-valuetext", describeWindow(result, figures, i));
  };
  const choose = (i) => {
    show(Math.min(Math.max(i, 0), last));
    onChoose(chosen);
  };
  const values = {
    role: "slider",
    tabindex: 0,
    "aria-label": "Windows over time",
    "aria-valuemin": 1,
    "aria-valuemax": last + 1,
  };
  for (const [name, value] of Object.entries(values)) picture.setAttribute(name, value);
  picture.addEventListener("keydown", (event) => onKey(event, { chosen, last, choose }));
  picture.addEventListener("click", (event) =>
    choose(nearest(result, timeAt(picture, event, result.seconds))),
  );
  show(chosen);
}

function onKey(event, { chosen, last, choose }) {
  const next = { ArrowRight: chosen + 1, ArrowUp: chosen + 1, ArrowLeft: chosen - 1, ArrowDown: chosen - 1 };
  const keys = { ...next, Home: 0, End: last, PageUp: chosen + 10, PageDown: chosen - 10, Enter: chosen, " ": chosen };
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  choose(keys[event.key]);
}

function timeAt(picture, event, seconds) {
  const box = picture.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * picture.viewBox.baseVal.width;
  const [from, to] = [0, seconds].map(timeScale(seconds, picture.viewBox.baseVal.width));
  return (seconds * (x - from)) / (to - from);
}

function nearest(result, time) {
  const distance = (i) => Math.abs(windowOf(result, i).reduce((a, b) => a + b) / 2 - time);
  return result.times.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0);
}
