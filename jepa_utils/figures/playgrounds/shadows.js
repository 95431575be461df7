// Two pictures of a shadow, shared by playgrounds: its histogram and its characteristic function, each beside the bell's.
// `shadow()` gives the places on the line; call `fit` when they have changed.
function shadowPlots(tools, parent, shadow, ratio = 0.5) {
  const WIDTH = 0.5, bins = Array.from({ length: 20 }, (_, i) => -5 + WIDTH * i);

  function heights() {
    const counts = bins.map(() => 0);
    for (const u of shadow()) counts[Math.max(0, Math.min(bins.length - 1, Math.floor((u + 5) / WIDTH)))]++;
    return counts.map((count) => count / (shadow().length * WIDTH));
  }

  const histogram = tools.plot({
    parent, title: "Its shadow (bars) and the bell (line)", x: [-5, 5], y: [0, 0.6], ratio, xlabel: "place u on the line",
    draw(pen, colours) {
      heights().forEach((height, i) => pen.bar(bins[i], bins[i] + WIDTH, height, { colour: colours.series[1] }));
      const u = Array.from({ length: 101 }, (_, i) => -5 + i / 10);
      pen.line(u, u.map((v) => Math.exp(-v * v / 2) / Math.sqrt(2 * Math.PI)), { colour: colours.ink });
    },
  });
  tools.plot({
    parent, title: "Characteristic function: mean cos tu (dashed), mean sin tu (dotted); the bell's (dots: 17 knots)", x: [-5, 5], y: [-1, 1.1], ratio, xlabel: "frequency t",
    draw(pen, colours) {
      const t = Array.from({ length: 201 }, (_, i) => -5 + i / 20), bell = (v) => Math.exp(-v * v / 2);
      const values = t.map((v) => characteristic(shadow(), v)), knots = Array.from({ length: KNOTS }, (_, k) => -T_MAX + k * KNOT_STEP);
      pen.line(t, t.map(bell), { colour: colours.ink });
      pen.line(t, values.map((v) => v[0]), { colour: colours.series[1], dash: [7, 3] });
      pen.line(t, values.map((v) => v[1]), { colour: colours.series[3], dash: [2, 3] });
      pen.dots(knots, knots.map(bell), { colour: colours.ink, size: 2.5 });
    },
  });
  return {
    fit() {
      const tallest = Math.max(...heights());
      histogram.y = [0, tallest <= 0.6 ? 0.6 : tallest <= 1.05 ? 1.05 : 2.1];
    },
  };
}
