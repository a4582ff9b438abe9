// Draws the mel spectrogram that mel.js computed: Hz against seconds, with a bar of dB.

import { MARGIN, secondsAxis, timeScale } from "./axes.js";
import { element, svg } from "./dom.js";
import { toMel } from "./mel.js";

const HEIGHT = 240;
const HERTZ = [250, 500, 1000, 2000, 4000, 8000];
const COLOURS = [
  [0, 0, 4],
  [59, 15, 112],
  [140, 41, 129],
  [222, 73, 104],
  [254, 159, 109],
  [252, 253, 191],
]; // dark to bright

/** A figure `width` pixels wide: a canvas, and its axes around it. */
export function drawSpectrogram(spectrogram, width) {
  const plot = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const canvas = element("canvas", { ...plot, role: "img", "aria-label": describe(spectrogram) });
  paint(canvas, spectrogram);
  return element("div", { class: "spectrogram" }, canvas, drawAxes(spectrogram, width, plot));
}

/** The same as one SVG element, which needs no script and scales as a whole. */
export function spectrogramPicture(spectrogram, width) {
  const [canvas, axes] = drawSpectrogram(spectrogram, width).children;
  const place = { x: MARGIN.left, y: MARGIN.top, width: canvas.width, height: canvas.height };
  axes.prepend(svg("image", { ...place, href: canvas.toDataURL("image/png") }));
  axes.removeAttribute("aria-hidden");
  for (const [name, value] of Object.entries({ role: "img", "aria-label": describe(spectrogram) }))
    axes.setAttribute(name, value);
  return axes;
}

function describe({ seconds, rate }) {
  return `Mel spectrogram: ${seconds.toFixed(1)} s, 0 to ${rate / 2} Hz, in dB below the loudest point`;
}

function paint(canvas, { columns, bands, levels }) {
  const picture = new ImageData(columns, bands);
  for (let x = 0; x < columns; x++) {
    for (let band = 0; band < bands; band++) {
      const pixel = ((bands - 1 - band) * columns + x) * 4;
      picture.data.set([...colourOf(levels[x * bands + band] / 255), 255], pixel);
    }
  }
  const small = element("canvas", { width: columns, height: bands });
  small.getContext("2d").putImageData(picture, 0, 0);
  canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** [red, green, blue] of a level from 0 to 1. */
function colourOf(level) {
  const place = level * (COLOURS.length - 1);
  const below = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[below].map((value, i) => value + (place - below) * (COLOURS[below + 1][i] - value));
}

function drawAxes({ seconds, rate, floor }, width, plot) {
  const y = (hertz) => MARGIN.top + plot.height * (1 - toMel(hertz) / toMel(rate / 2));
  const bottom = MARGIN.top + plot.height;
  const bar = width - MARGIN.right + 8;
  const slices = Array.from({ length: 40 }, (_, i) =>
    svg("rect", {
      x: bar,
      y: bottom - ((i + 1) * plot.height) / 40,
      width: 8,
      height: plot.height / 40 + 0.5,
      fill: `rgb(${colourOf(i / 39).map(Math.round)})`,
    }),
  );
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, "aria-hidden": "true" },
    ...HERTZ.filter((hertz) => hertz <= rate / 2).flatMap((hertz) => [
      svg("line", { x1: MARGIN.left - 4, x2: MARGIN.left, y1: y(hertz), y2: y(hertz), class: "axis" }),
      svg(
        "text",
        { x: MARGIN.left - 6, y: y(hertz) + 4, class: "end" },
        hertz < 1000 ? String(hertz) : `${hertz / 1000}k`,
      ),
    ]),
    svg("text", { x: 10, y: bottom - 8, transform: `rotate(-90 10 ${bottom - 8})` }, "frequency (Hz)"),
    ...slices,
    ...[0, 0.5, 1].map((part) =>
      svg("text", { x: bar + 11, y: MARGIN.top + part * plot.height + (part ? 3 : 8) }, `${-floor * part || 0}`),
    ),
    svg("text", { x: bar + 11, y: bottom + 16 }, "dB"),
    ...secondsAxis(seconds, width, bottom),
  );
}
