/** Throughput and latency of the last minutes, from the status messages that this page received. */

import { series, summary } from "../activity.js";
import { h, island } from "../dom.js";
import { duration } from "../format.js";
import { empty, panel } from "./parts.js";

/** @typedef {import("../app.js").App} App */

/** @param {App} app */
export function throughputChart(app) {
  const { completed, other } = summary(app.known.activity, app.now);
  return chartPanel(app, {
    title: "Throughput",
    words: `commands per second, 5 minutes: ${completed} completed, ${other} not`,
    names: ["completed", "not completed"],
    values: (data) => [data.times, data.completed, data.other],
    format: (value) => String(Math.round(value * 100) / 100),
    least: 1,
    points: false,
  });
}

/** @param {App} app */
export function latencyChart(app) {
  const { wait, total, totalHigh } = summary(app.known.activity, app.now);
  return chartPanel(app, {
    title: "Latency",
    words: `5 minutes: to the start ${duration(wait)}, to the end ${duration(total)}, p95 ${duration(totalHigh)}`,
    names: ["queued to ended, median", "queued to ended, p95", "queued to started, median"],
    values: (data) => [data.times, data.totalMedian, data.totalHigh, data.waitMedian],
    format: duration,
    least: 10,
    points: true,
  });
}

/**
 * @typedef {object} Chart
 * @property {string} title
 * @property {string} words  the same for who cannot see the chart
 * @property {string[]} names  of the series
 * @property {(data: ReturnType<typeof series>) => (number | null)[][]} values
 * @property {(value: number) => string} format
 * @property {number} least  what the axis reaches at the least
 * @property {boolean} points  whether single values have to be seen
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
          ),
        )
      : empty("No charts", "They need uPlot, which was not installed with this bridge."),
  );
}

/** @param {HTMLElement} element @param {App} app @param {Chart} chart */
function mount(element, app, chart) {
  /** @type {any} */
  let plot = null;
  const draw = () => {
    plot?.destroy();
    plot = new app.vendored.uPlot(options(element, chart), chart.values(series(app.known.activity, app.now)), element);
  };
  draw();
  const stop = app.onTick(() => plot.setData(chart.values(series(app.known.activity, app.now))));
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
function options(element, chart) {
  const styles = getComputedStyle(document.documentElement);
  const color = (/** @type {string} */ name) => styles.getPropertyValue(name).trim();
  const axis = {
    stroke: color("--text-quiet"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1, size: 4 },
    font: `11px ${color("--sans")}`,
  };
  const dashes = [undefined, [6, 3], [2, 3]];
  return {
    ...size(element),
    legend: { show: false },
    cursor: { show: false },
    padding: [6, 8, 0, 0],
    scales: {
      // A little room at the end, or the latest point is cut in half.
      x: { range: (/** @type {[any, number, number]} */ ...[, low, high]) => [low, high + 3] },
      y: { range: (/** @type {[any, number, number]} */ ...[, , high]) => [0, Math.max(high * 1.15, chart.least)] },
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
        values: (/** @type {any} */ _plot, /** @type {number[]} */ values) => values.map(chart.format),
      },
    ],
    series: [
      {},
      ...chart.names.map((_, at) => ({
        stroke: color(`--chart-${at + 1}`),
        width: 1.75,
        dash: dashes[at],
        spanGaps: true,
        points: { show: chart.points, size: 4, fill: color(`--chart-${at + 1}`) },
      })),
    ],
  };
}

/** @param {number} seconds */
function hoursAndMinutes(seconds) {
  const at = new Date(seconds * 1000);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}
