// One recording's verdict as an HTML page that needs nothing else: no script, no other file, no network.

import { spectrogramPicture } from "./spectrogram.js";
import { drawTimeline, windowOf } from "./timeline.js";
import { element } from "./dom.js";
import { drawVerdict, labelOf } from "./verdict.js";

const WIDTH = 720;

/** The report as a Blob; `css` is the page's style sheet. */
export function makeReport(result, figures, css) {
  const body = element(
    "main",
    {},
    element("h1", {}, "Report on a recording"),
    drawVerdict(result, figures, WIDTH),
    element("h3", {}, "Over time"),
    drawTimeline(result, figures, WIDTH),
    element("h3", {}, "Mel spectrogram"),
    spectrogramPicture(result.spectrogram, WIDTH),
    element("h3", {}, "Figures"),
    drawFigures(result, figures),
    element("h3", {}, "Windows"),
    drawWindows(result, figures),
    element("p", {}, "A verdict alone is not evidence. The detector is for research and education only."),
  );
  const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
  const head = [
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    element("title", {}, `${result.label}: ${result.name}`).outerHTML,
    `<style>${css}</style>`,
  ];
  const page = [
    "<!doctype html>",
    '<html lang="en"><head>',
    ...head,
    '</head><body class="report">',
    body.outerHTML,
    "</body></html>\n",
  ];
  return new Blob([page.join("\n")], { type: "text/html" });
}

function drawFigures(result, figures) {
  const rows = {
    File: result.name,
    Verdict: result.label,
    "P(fake)": result.score.toFixed(6),
    Evidence: result.support || "-",
    "Why uncertain": result.reason || "-",
    Threshold: figures.threshold.toFixed(6),
    "Uncertain band": figures.uncertain ? figures.uncertain.map((bound) => bound.toFixed(6)).join(" to ") : "none",
    Duration: `${result.seconds.toFixed(3)} s`,
    Detector: figures.detector,
    Judged: `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`,
  };
  return element(
    "table",
    {},
    element(
      "tbody",
      {},
      ...Object.entries(rows).map(([name, value]) =>
        element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)),
      ),
    ),
  );
}

function drawWindows(result, figures) {
  const heads = ["From (s)", "To (s)", "P(fake)", "On its own"].map((title) => element("th", { scope: "col" }, title));
  const rows = result.scores.map((score, i) => {
    const cells = [
      ...windowOf(result, i).map((time) => time.toFixed(2)),
      score.toFixed(4),
      labelOf(score, figures),
    ];
    return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
  });
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
}
