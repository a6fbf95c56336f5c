// Replaces the page's static charts by charts that uPlot draws, and refreshes them.

const LOOK_EVERY_MS = 10000;
const COLOURS = ["--accent", "--warn", "--bad"];

function colour(name) {
  const probe = document.createElement("span");
  probe.className = `probe${name}`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(section, names, width) {
  const [ink, grid] = [colour("--soft"), colour("--line")];
  const axis = {stroke: ink, grid: {stroke: grid, width: 1}, ticks: {show: false}};
  const short = section.dataset.history.includes("14d") ? "{MM}-{DD}" : "{HH}:{mm}";
  const times = {...axis, values: (_, at) => at.map((one) => uPlot.fmtDate(short)(new Date(one * 1000)))};
  return {
    width,
    height: 150,
    cursor: {y: false, sync: {key: "past"}},
    legend: {live: true},
    scales: {y: {range: (_, low, high) => [0, Math.max(high, 0.001) * 1.05]}},
    axes: [times, {...axis, size: 60}],
    series: [
      {value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}"},
      ...names.map((name, at) => ({
        label: name.replace("_per_s", "").replace(/_s$/, ""),
        stroke: colour(COLOURS[at]),
        width: 1.5,
        points: {show: false},
      })),
    ],
  };
}

async function read(section) {
  const answer = await fetch(section.dataset.history, {headers: {Accept: "application/json"}});
  return answer.ok ? answer.json() : null;
}

function data(past, names) {
  return [past.times, ...names.map((name) => past.lines[name])];
}

async function start(section) {
  const past = await read(section);
  if (!past || !window.uPlot) return;
  const plots = [];
  for (const figure of section.querySelectorAll(".picture")) {
    const names = figure.dataset.lines.split(" ");
    const place = figure.querySelector(".plot");
    const width = place.clientWidth;
    place.replaceChildren();
    figure.classList.add("drawn");
    plots.push([new uPlot(options(section, names, width), data(past, names), place), names, place]);
  }
  new ResizeObserver(() => {
    for (const [plot, , place] of plots) plot.setSize({width: place.clientWidth, height: 150});
  }).observe(section);
  setInterval(async () => {
    if (document.hidden) return;
    const now = await read(section).catch(() => null);
    if (now) for (const [plot, names] of plots) plot.setData(data(now, names));
  }, LOOK_EVERY_MS);
}

for (const section of document.querySelectorAll("[data-history]")) start(section);
