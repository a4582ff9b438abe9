// The page: takes recordings, has them judged one after the other, and shows what came out.

import { LIMITS } from "./audio.js";
import { download } from "./dom.js";
import { Engine, explainFailure } from "./engine.js";
import { offerRecording, showExamples, takeDrops } from "./inputs.js";
import { play, stop } from "./player.js";
import { makeReport } from "./report.js";
import { drawSpectrogram } from "./spectrogram.js";
import { drawTable, toCsv } from "./table.js";
import { describeWindow, drawTimeline, makeChoosable, windowOf } from "./timeline.js";
import { drawVerdict } from "./verdict.js";

const at = (id) => document.getElementById(id);
const state = { loading: null, figures: null, results: [], opened: null, window: 0, sort: { key: null, down: false } };
const queue = [];
let working = false;

/** Puts files into the queue; the first result of a new batch is opened. */
function judge(files) {
  queue.push(...files);
  if (queue.length && !working) work();
}

async function work() {
  working = true;
  const { results } = state; // cleared while it works: then another list takes its place
  const before = results.length;
  const engine = await state.loading;
  for (let done = 0; engine && queue.length; done++) {
    const file = queue.shift();
    say(`Judging ${file.name}${queue.length ? `, ${queue.length} more to come` : ""} ...`);
    const result = await engine.judge(file, (share) => showProgress((done + share) / (done + 1 + queue.length)));
    if (results !== state.results) break;
    results.push({ ...result, file });
    if (results.length === before + 1) open(results[before]);
    showTable();
  }
  at("progress").hidden = true;
  working = false;
  if (results !== state.results)
    judge([]); // what was given after it was cleared
  else if (engine) finish(results.slice(before));
}

function showProgress(share) {
  at("progress").hidden = false;
  at("progress").value = share;
}

function finish(results) {
  const failed = results.filter(({ error }) => error).length;
  const took = results.reduce((sum, result) => sum + (result.took ?? 0), 0).toFixed(1);
  const many = results.length === 1 ? "Judged in" : `${results.length} files judged in`;
  if (failed === results.length) say(failed === 1 ? "Not judged." : "None of the files could be judged.");
  else say(`${many} ${took} s${failed ? `; ${failed} could not be judged` : ""}.`);
  if (results.length > 1) announce(at("status").textContent);
}

/** Shows a line of text. */
function say(text) {
  at("status").textContent = text;
}

/** Has a line of text read aloud by a screen reader. */
function announce(text) {
  at("announcement").textContent = text;
}

/** Both. */
function tell(text) {
  say(text);
  announce(text);
}

/** Shows one result. */
function open(result) {
  stop();
  Object.assign(state, { opened: result, window: 0 });
  at("result").hidden = false;
  at("more").hidden = Boolean(result.error);
  const player = at("player");
  URL.revokeObjectURL(player.src);
  player.hidden = Boolean(result.error);
  if (result.error) player.removeAttribute("src");
  else player.src = URL.createObjectURL(result.file);
  announce(result.error ? `${result.name} cannot be judged: ${result.error}.` : `${result.name}: ${result.label}.`);
  draw();
  at("verdict").scrollIntoView({ block: "nearest" });
}

/** Draws the opened result as wide as the page is now. */
function draw() {
  const { opened: result, figures } = state;
  const width = Math.min(at("result").clientWidth - 2 * 16, 900);
  if (!result || width <= 0) return;
  at("verdict").replaceChildren(drawVerdict(result, figures, width));
  if (result.error) return;
  const focused = document.activeElement?.classList.contains("timeline");
  const timeline = drawTimeline(result, figures, width);
  makeChoosable(timeline, result, figures, state.window, (i) => hear(result, i));
  at("timeline").replaceChildren(timeline);
  at("window").textContent = describeWindow(result, figures, state.window);
  at("spectrogram").replaceChildren(drawSpectrogram(result.spectrogram, width));
  if (focused) timeline.focus();
}

function hear(result, i) {
  state.window = i;
  at("window").textContent = describeWindow(result, state.figures, i);
  at("player").pause();
  play(result.file, ...windowOf(result, i)).catch((error) =>
    tell(`This window cannot be played: ${error.message}.`),
  );
}

function showTable() {
  at("files").hidden = false;
  at("table").hidden = state.results.length < 2;
  const focused = document.activeElement?.dataset?.sort;
  const table = drawTable(state.results, {
    sort: state.sort,
    opened: state.opened,
    onSort: sortBy,
    onOpen: openFromTable,
  });
  at("table").replaceChildren(table);
  if (focused) table.querySelector(`[data-sort="${focused}"]`).focus();
}

function sortBy(key) {
  state.sort = { key, down: state.sort.key === key && !state.sort.down };
  showTable();
}

function openFromTable(result) {
  open(result);
  showTable();
  at("result").focus();
}

function clear() {
  stop();
  queue.length = 0;
  Object.assign(state, { results: [], opened: null });
  for (const id of ["result", "files"]) at(id).hidden = true;
  tell("Cleared.");
  at("choose").focus();
}

function saveTable() {
  download(new Blob([toCsv(state.results, state.figures.detector)], { type: "text/csv" }), "scores.csv");
}

async function saveReport() {
  const css = await (await fetch("style.css")).text();
  download(makeReport(state.opened, state.figures, css), `report-${state.opened.file.name}.html`);
}

function listen() {
  at("choose").addEventListener("change", ({ target }) => {
    judge([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
  offerRecording(at("record"), judge, tell);
  at("csv").addEventListener("click", saveTable);
  at("report").addEventListener("click", saveReport);
  at("clear").addEventListener("click", clear);
  at("player").addEventListener("error", ({ target }) => (target.hidden = true)); // formats it cannot play
  new ResizeObserver(draw).observe(at("result"));
  takeDrops(at("drop"), judge);
}

function start() {
  at("limits-of-files").textContent = `Up to ${LIMITS.minutes} minutes and ${LIMITS.megabytes} MB a file.`;
  state.loading = load();
  showExamples(at("examples"), judge);
  listen();
}

/** The engine; null where it cannot be loaded, which the page says. */
async function load() {
  try {
    const engine = await Engine.load();
    showFigures((state.figures = engine.figures));
    if (!working) say("Ready.");
    return engine;
  } catch (error) {
    tell(explainFailure(error, location.protocol));
    return null;
  }
}

/** Says how the detector did on clips that it was not trained on. */
function showFigures({ detector, tested: { clips, false_positives, missed, uncertain } }) {
  const percent = (share) => `${Math.round(100 * share)} %`;
  at("detector").textContent = detector;
  at("tested").textContent =
    `Of ${clips} recordings by speakers and synthesis systems that it had never heard, it called ` +
    `${percent(uncertain)} uncertain. It called ${percent(false_positives)} of the genuine ones fake, and ${percent(missed)} of the fakes real.`;
}

start();
