// The verdict in words, and the scale that shows where the score is.

import { element, svg } from "./dom.js";

/** "real", "fake" or "uncertain" for a score = P(fake), as dfa_utils.inference.Prediction.label. */
export function labelOf(score, { threshold, uncertain }, reason = "") {
  if (reason || (uncertain && uncertain[0] <= score && score < uncertain[1])) return "uncertain";
  return score >= threshold ? "fake" : "real";
}

/** How many times more likely a score is for synthetic than for genuine speech, as Prediction.likelihood_ratio. */
export function likelihoodRatio({ score, reason }, { evidence }) {
  if (reason || !evidence) return null;
  const [real, fake] = evidence;
  return Math.min(Math.max(score / (1 - score), 1 / (fake + 1)), real + 1);
}

/** The likelihood ratio in words, as Prediction.support; "" without one. */
export function supportOf(result, figures) {
  const ratio = likelihoodRatio(result, figures);
  if (ratio === null) return "";
  const [times, kind] = ratio > 1 ? [ratio, "synthetic"] : [1 / ratio, "genuine"];
  const [, word] = figures.support.find(([least]) => times >= least) ?? [];
  if (!word) return "about as likely if synthetic as if genuine: no support for either";
  const rounded = Number(times.toPrecision(2)).toLocaleString("en-US");
  return `about ${rounded} times more likely if ${kind}: ${word} support`;
}

/** [start, end] in s of the longest stretch whose windows are all called fake, as Prediction.suspicious, or null. */
export function suspiciousStretch({ times, ends, scores, reason }, { threshold, uncertain }) {
  const limit = Math.max(threshold, uncertain?.[1] ?? 0);
  let [longest, start] = [null, null];
  scores.forEach((score, i) => {
    start = score >= limit ? (start ?? times[i]) : null;
    if (start !== null && ends[i] - start > (longest ? longest[1] - longest[0] : 0)) longest = [start, ends[i]];
  });
  return reason ? null : longest;
}

/** One or two sentences that say what a result's label means, and why it is so. */
export function explain({ label, score, reason }, { uncertain, meaning }) {
  if (label !== "uncertain") return meaning[label];
  if (reason) return `${meaning.uncertain} The reason: ${reason}.`;
  const [low, high] = uncertain.map((bound) => bound.toFixed(2));
  return `${meaning.uncertain} The probability, ${score.toFixed(2)}, is between ${low} and ${high}, where errors are frequent.`;
}

/** What the score is worth as evidence, and where in the recording to listen first: sentences. */
function weigh(result, figures) {
  const support = supportOf(result, figures);
  const stretch = result.scores.length > 1 && suspiciousStretch(result, figures);
  const seconds = stretch && stretch.map((time) => time.toFixed(1)).join(" to ");
  return [support && figures.weight.replace("{}", support), seconds && figures.suspicious.replace("{}", seconds)].filter(
    Boolean,
  );
}

/** The probability on a scale from 0 to 1, with the uncertain band and the threshold, `width` pixels wide. */
export function drawScale({ score, label }, { threshold, uncertain }, width) {
  const [left, right, top] = [12, 12, 30];
  const x = (value) => left + value * (width - left - right);
  const band = uncertain ?? [threshold, threshold];
  const [low, high, limit] = [...band, threshold].map((value) => value.toFixed(2));
  const summary = `P(fake) ${score.toFixed(3)}, from 0 to 1; uncertain from ${low} to ${high}, threshold ${limit}`;
  const zone = (from, to, name) => [
    svg("rect", { x: x(from), y: top, width: x(to) - x(from), height: 16, class: `zone ${name}` }),
    x(to) - x(from) > 7 * name.length ? svg("text", { x: x((from + to) / 2), y: top + 32, class: "middle" }, name) : "",
  ];
  return svg(
    "svg",
    { viewBox: `0 0 ${width} 84`, width, height: 84, role: "img", "aria-label": summary, class: "scale" },
    ...zone(0, band[0], "real"),
    ...zone(band[0], band[1], "uncertain"),
    ...zone(band[1], 1, "fake"),
    svg("line", { x1: x(threshold), x2: x(threshold), y1: top - 4, y2: top + 20, class: "threshold" }),
    svg("path", { d: `M${x(score)} ${top + 2}l-7 -12h14z`, class: `marker ${label}` }),
    svg(
      "text",
      { x: Math.min(Math.max(x(score), 60), width - 60), y: 14, class: "middle strong" },
      `P(fake) ${score.toFixed(3)}`,
    ),
    ...[0, 1].map((end) => svg("text", { x: x(end), y: top + 50, class: end ? "end" : "" }, end ? "1 fake" : "0 real")),
    svg("text", { x: x(threshold), y: top + 50, class: "middle" }, `threshold ${threshold.toFixed(2)}`),
  );
}

/** The verdict on one result: heading, explanation, scale. */
export function drawVerdict(result, figures, width) {
  if (result.error) {
    return element(
      "div",
      { class: "verdict error" },
      element("h2", {}, "This file cannot be judged"),
      element("p", {}, `${result.name}: ${result.error}.`),
    );
  }
  return element(
    "div",
    { class: `verdict ${result.label}` },
    element("h2", {}, element("span", { class: "badge" }, result.label), " ", result.name),
    element("p", {}, explain(result, figures)),
    ...weigh(result, figures).map((sentence) => element("p", {}, sentence)),
    drawScale(result, figures, width),
  );
}
