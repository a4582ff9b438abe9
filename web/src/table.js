// The table of several recordings: sorted by any column, and as CSV with the columns of `predict --out`.

import { element } from "./dom.js";

const COLUMNS = [
  { key: "name", title: "File" },
  { key: "label", title: "Verdict" },
  { key: "score", title: "P(fake)", digits: 3 },
  { key: "support", title: "Evidence" },
  { key: "seconds", title: "Seconds", digits: 2 },
  { key: "note", title: "Reason or error" },
];
const HEADINGS = ["path", "score", "label", "likelihood_ratio", "support", "reason", "seconds", "detector", "error"];

/** The rows in a table; `sort` is { key, down }. A click on a heading calls onSort(key), on a name onOpen(result). */
export function drawTable(results, { sort, opened, onSort, onOpen }) {
  const head = COLUMNS.map(({ key, title }) => {
    const state = sort.key === key ? (sort.down ? "descending" : "ascending") : "none";
    const button = element(
      "button",
      { type: "button", "data-sort": key },
      title,
      element("span", { "aria-hidden": "true" }, { none: " ↕", ascending: " ↑", descending: " ↓" }[state]),
    );
    button.addEventListener("click", () => onSort(key));
    return element("th", { scope: "col", "aria-sort": state }, button);
  });
  const rows = sorted(results, sort).map((result) => drawRow(result, result === opened, onOpen));
  return element(
    "table",
    {},
    element("caption", {}, "All recordings"),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
}

function drawRow(result, current, onOpen) {
  const button = element(
    "button",
    { type: "button", class: "link", ...(current && { "aria-current": "true" }) },
    result.name,
  );
  button.addEventListener("click", () => onOpen(result));
  const cells = COLUMNS.slice(1).map((column) =>
    element("td", column.digits ? { class: "number" } : {}, cellOf(result, column)),
  );
  return element(
    "tr",
    { class: result.error ? "error" : result.label },
    element("th", { scope: "row" }, button),
    ...cells,
  );
}

function cellOf(result, { key, digits }) {
  const value = valueOf(result, key);
  if (key === "label" && value !== "-") return element("span", { class: "badge" }, value);
  return digits && typeof value === "number" ? value.toFixed(digits) : value;
}

function valueOf(result, key) {
  if (key === "note") return result.error ?? result.reason;
  return result[key] ?? "-";
}

/** The results in the order of one column; errors, which have no score, come last. */
export function sorted(results, { key, down }) {
  const compare = (a, b) => {
    const [x, y] = [valueOf(a, key), valueOf(b, key)];
    if (typeof x === "number" && typeof y === "number") return x - y;
    return String(x).localeCompare(String(y), undefined, { numeric: true });
  };
  const failed = (result) => Number(key !== "name" && key !== "note" && "error" in result);
  return [...results].sort((a, b) => failed(a) - failed(b) || (down ? -1 : 1) * compare(a, b));
}

/** The results as CSV, as Python writes them: a row a file, in the order in which they were given. */
export function toCsv(results, fingerprint) {
  const rows = results.map(({ name, score, label, ratio, support, reason, seconds, error }) => {
    if (error) return [name, "", "", "", "", "", "", fingerprint, `${name}: ${error}`];
    const odds = ratio === null ? "" : String(Number(ratio.toPrecision(6)));
    return [name, score.toFixed(9), label, odds, support, reason, seconds.toFixed(3), fingerprint, ""];
  });
  return [HEADINGS, ...rows].map((row) => `${row.map(quote).join(",")}\r\n`).join("");
}

function quote(cell) {
  const line = cell.replaceAll("\r", "\\r").replaceAll("\n", "\\n");
  return /[",]/.test(line) ? `"${line.replaceAll('"', '""')}"` : line;
}
