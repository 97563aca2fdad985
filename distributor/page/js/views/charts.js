/** Throughput and latency charts of the last 5 minutes, from status messages received by the page. */

import { series, summary } from "../activity.js";
import { h, island } from "../dom.js";
import { duration, zone } from "../format.js";
import { countsEveryEnd } from "../store.js";
import { empty, panel } from "./parts.js";

/** @typedef {import("../app.js").App} App */

/** @type {Scale} */
const linear = {
  distr: 1,
  range: (_, high) => [0, Math.max(1, high * 1.15)],
  format: (value) => String(Math.round(value * 100) / 100),
  points: false,
};

const powersOfTen = Array.from({ length: 10 }, (_, power) => 10 ** power);

/** Durations from milliseconds to minutes, in ms. @type {Scale} */
const logarithmic = {
  distr: 3,
  range: (low, high) => [
    10 ** Math.floor(Math.log10(Math.max(1, low))),
    10 ** Math.ceil(Math.log10(Math.max(10, high))),
  ],
  ticks: (low, high) => powersOfTen.filter((value) => value >= low && value <= high),
  format: (value) => (value < 1000 ? `${value} ms` : `${value / 1000} s`),
  points: true,
};

/** @param {App} app */
export function throughputChart(app) {
  const { completed, other } = summary(app.known.activity, app.now);
  return chartPanel(app, {
    title: "Throughput",
    words: `commands per second, 5 minutes: ${completed} completed, ${other} not completed${orMore(app)}`,
    names: ["completed", "not completed"],
    values: (data) => [data.times, data.completed, data.other],
    scale: linear,
  });
}

/** @param {App} app */
const orMore = ({ known, now }) => (countsEveryEnd(known, now) ? "" : ", or more");

/** @param {App} app */
export function latencyChart(app) {
  const { wait, total, totalHigh } = summary(app.known.activity, app.now);
  return chartPanel(app, {
    title: "Latency",
    words: `5 minutes: start ${duration(wait)}, end ${duration(total)} (medians), end p95 ${duration(totalHigh)}`,
    names: ["queued to ended, median", "queued to ended, p95", "queued to started, median"],
    values: (data) => [data.times, ...[data.totalMedian, data.totalHigh, data.waitMedian].map(atLeastOne)],
    scale: logarithmic,
  });
}

/**
 * @typedef {object} Chart
 * @property {string} title
 * @property {string} words  text alternative of the chart
 * @property {string[]} names  series names
 * @property {(data: ReturnType<typeof series>) => (number | null)[][]} values
 * @property {Scale} scale
 *
 * @typedef {object} Scale
 * @property {number} distr  uPlot's `distr`: 1 linear, 3 logarithmic
 * @property {(low: number, high: number) => [number, number]} range
 * @property {(low: number, high: number) => number[]} [ticks]  uPlot's default if omitted
 * @property {(value: number) => string} format  formats a tick
 * @property {boolean} points  whether to draw single points
 */

/** @param {App} app @param {Chart} chart */
function chartPanel(app, chart) {
  return panel(
    chart.title,
    h("span", { class: "quiet" }, chart.words),
    app.vendored.uPlot
      ? h(
          "div",
          { class: "live" },
          island(`chart ${chart.title}`, (element) => mount(element, app, chart), {
            class: "chart",
            "aria-hidden": "true",
          }),
          h(
            "div",
            { class: "chart-key" },
            chart.names.map((name, at) => h("span", { class: `series-${at + 1}` }, h("i", null), name)),
            h("span", { class: "quiet" }, `times in ${zone(app.now)}`),
          ),
        )
      : empty("No charts", "uPlot is not installed with this bridge."),
  );
}

/** @param {HTMLElement} element @param {App} app @param {Chart} chart */
function mount(element, app, chart) {
  const data = () => chart.values(series(app.known.activity, app.now, app.known.since));
  /** @type {any} */
  let plot = null;
  const draw = () => {
    plot?.destroy();
    plot = new app.vendored.uPlot(options(element, chart), data(), element);
  };
  draw();
  const stop = app.onTick(() => plot.setData(data()));
  const sized = new ResizeObserver(() => plot.setSize(size(element)));
  sized.observe(element);
  addEventListener("themechange", draw);
  return () => {
    stop();
    sized.disconnect();
    removeEventListener("themechange", draw);
    plot.destroy();
  };
}

/** @param {HTMLElement} element */
const size = (element) => ({
  width: Math.max(200, element.clientWidth - 12),
  height: Math.max(120, element.clientHeight - 8),
});

/** @param {HTMLElement} element @param {Chart} chart */
function options(element, { names, scale }) {
  const styles = getComputedStyle(document.documentElement);
  const color = (/** @type {string} */ name) => styles.getPropertyValue(name).trim();
  const axis = {
    stroke: color("--text-quiet"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1, size: 4 },
    font: `11px ${color("--sans")}`,
  };
  const { ticks } = scale;
  const dashes = [undefined, [6, 3], [2, 3]];
  return {
    ...size(element),
    legend: { show: false },
    cursor: { show: false },
    padding: [6, 18, 0, 0],
    scales: {
      // Room at the end, so that the latest point is not clipped.
      x: { range: (/** @type {[any, number, number]} */ ...[, low, high]) => [low, high + 3] },
      y: {
        distr: scale.distr,
        range: (/** @type {[any, number | null, number | null]} */ ...[, low, high]) =>
          scale.range(low ?? 0, high ?? 0),
      },
    },
    axes: [
      {
        ...axis,
        size: 26,
        incrs: [60, 120, 300],
        values: (/** @type {any} */ _plot, /** @type {number[]} */ times) => times.map(hoursAndMinutes),
      },
      {
        ...axis,
        size: 62,
        ...(ticks && {
          splits: (/** @type {[any, number, number, number]} */ ...[, , low, high]) => ticks(low, high),
          // By default uPlot omits some ticks on a logarithmic axis.
          filter: (/** @type {any} */ _plot, /** @type {number[]} */ values) => values,
        }),
        values: (/** @type {any} */ _plot, /** @type {number[]} */ values) => values.map(scale.format),
      },
    ],
    series: [
      {},
      ...names.map((_, at) => ({
        stroke: color(`--chart-${at + 1}`),
        width: 1.75,
        dash: dashes[at],
        spanGaps: true,
        points: { show: scale.points, size: 4, fill: color(`--chart-${at + 1}`) },
      })),
    ],
  };
}

/** Raises values to 1 ms: a logarithmic scale has no 0. @param {(number | null)[]} values */
const atLeastOne = (values) => values.map((value) => (value === null ? null : Math.max(1, value)));

/** @param {number} seconds */
function hoursAndMinutes(seconds) {
  const at = new Date(seconds * 1000);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}
