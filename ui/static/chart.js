// Calls over time, allowed and denied, stacked.
const { uPlot } = window; // its script comes before modules

function stacked(points, step, since) {
  const found = new Map(points.map((point) => [Date.parse(point.bucket) / 1000, point]));
  const first = Math.floor(Date.parse(since) / 1000 / step) * step;
  const times = [];
  for (let at = first; at <= Date.now() / 1000; at += step) times.push(at);
  const denied = times.map((at) => found.get(at)?.denied ?? 0);
  const all = times.map((at, index) => denied[index] + (found.get(at)?.allowed ?? 0));
  return [times, all, denied];
}

for (const place of document.querySelectorAll(".chart")) {
  const color = (name) => {
    place.style.color = `var(${name})`; // resolves light-dark(), which a canvas does not know
    return getComputedStyle(place).color;
  };
  const step = Number(place.dataset.step);
  const bars = uPlot.paths.bars({ size: [0.8, 40] });
  const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 } };
  const value = (chart, all) => (all ?? 0).toLocaleString();
  const chart = new uPlot(
    {
      width: place.clientWidth,
      height: 220,
      series: [
        {},
        { label: "all", fill: color("--accent"), stroke: color("--accent"), paths: bars, value },
        { label: "denied", fill: color("--denied"), stroke: color("--denied"), paths: bars, value },
      ],
      axes: [axis, { ...axis, size: 60 }],
      scales: { y: { range: (_, low, high) => [0, Math.max(high, 1)] } },
    },
    stacked(JSON.parse(place.dataset.series), step, place.dataset.since),
    place,
  );
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: 220 })).observe(place);
}
