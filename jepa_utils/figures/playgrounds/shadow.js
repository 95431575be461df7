// needs losses.js
// needs shadows.js
// A direction to turn on a cloud: the cloud's shadow on that line, and the penalty of every direction on a dial.
// data: points (N, 2), and the angle in degrees to begin with, if any. figure.play, for tests: set({angle}), in radians, and state().
play.add("shadow", function (root, data, tools) {
  const points = data.points.lists(), DEGREE = Math.PI / 180, LIMIT = 1.05 * Math.max(2, ...points.flat().map(Math.abs));
  const all = Array.from({ length: 180 }, (_, d) => eppsPulley(shadowOf(points, d * DEGREE))), most = Math.max(...all), least = Math.min(...all);
  // What N points of a standard normal get on average.
  const bell = eppsPulleyOfBell(), mean = sigreg(points).value;
  let angle = (data.angle ?? 0) * DEGREE, shadow;

  const panels = tools.panels();
  panels.classList.add("play-two");
  const cloud = tools.plot({
    parent: panels, title: "The cloud and a direction ◆ to turn", x: [-LIMIT, LIMIT], y: [-LIMIT, LIMIT], ratio: "equal",
    draw(pen, colours) {
      const c = Math.cos(angle), s = Math.sin(angle), far = 2 * LIMIT;
      pen.line([-far * c, far * c], [-far * s, far * s], { colour: colours.series[1], width: 1.5, dash: [6, 4] });
      pen.dots(points.map((p) => p[0]), points.map((p) => p[1]), { colour: colours.series[0], size: 1.7 });
      pen.dots(Array.from(shadow, (u) => u * c), Array.from(shadow, (u) => u * s), { colour: colours.series[1], size: 1.7 });
    },
  });
  const dial = tools.plot({
    parent: panels, title: "The penalty T by direction; here ▲", x: [-1.2, 1.2], y: [-1.2, 1.2], ratio: "equal", axes: false,
    draw(pen, colours) {
      const turns = Array.from({ length: 361 }, (_, d) => d), at = (d, r) => [r * Math.cos(d * DEGREE), r * Math.sin(d * DEGREE)];
      for (const part of [0.5, 1]) {
        const circle = turns.map((d) => at(d, part));
        pen.line(circle.map((p) => p[0]), circle.map((p) => p[1]), { colour: colours.grid, width: 1, dash: [3, 4] });
        pen.text(tools.number(part * most, 1), 0.74 * part, 0.74 * part, { colour: colours.soft });
      }
      const curve = turns.map((d) => at(d, all[d % 180] / most)), here = at(angle / DEGREE, eppsPulley(shadow) / most);
      pen.line([0, Math.cos(angle)], [0, Math.sin(angle)], { colour: colours.series[1], width: 1.5, dash: [6, 4] });
      pen.line(curve.map((p) => p[0]), curve.map((p) => p[1]), { colour: colours.ink });
      pen.dots([here[0]], [here[1]], { colour: colours.series[1], size: 7, shape: 2 });
    },
  });
  const pictures = shadowPlots(tools, panels, () => shadow, 0.75);
  for (const [on, far] of [[cloud, 0.93 * LIMIT], [dial, 1]]) {
    tools.handles(on, {
      places: () => [[far * Math.cos(angle), far * Math.sin(angle)]], kind: "play-knob", colour: (c) => c.series[1],
      name: () => `Direction at ${Math.round(angle / DEGREE)} degrees`,
      move(_, x, y) { turn(Math.atan2(y, x)); },
      nudge(_, dx, dy) { turn(angle + Math.sign(dy - dx) * 2 * DEGREE); },
    });
  }
  const direction = tools.slider({ label: "Direction", min: 0, max: 359, step: 1, value: 0, text: (v) => v + "°", input: (v) => turn(v * DEGREE) });
  tools.row(direction.element, tools.button("Highest T", () => turn(all.indexOf(most) * DEGREE)), tools.button("Lowest T", () => turn(all.indexOf(least) * DEGREE)));
  const show = tools.readings([
    ["statistic", "T of this direction"], ["variance", "variance of this shadow"], ["sigreg", "SIGReg: mean T of 64 directions"], ["bell", "T of a Gaussian sample, on average"],
  ]);

  function eppsPulleyOfBell() {  // N times the expected squared gap is 1 - bell squared at every knot
    let sum = 0;
    for (let k = 1; k <= (KNOTS - 1) / 2; k++) {
      const b = Math.exp(-((k * KNOT_STEP) ** 2) / 2);
      sum += (2 * k === KNOTS - 1 ? 1 : 2) * KNOT_STEP * b * (1 - b * b);
    }
    return sum;
  }

  function turn(to) { angle = ((to / DEGREE + 360) % 360) * DEGREE; change(); }

  function change() {
    shadow = shadowOf(points, angle);
    const n = points.length, centre = shadow.reduce((sum, u) => sum + u, 0) / n;
    const values = { statistic: eppsPulley(shadow), variance: shadow.reduce((sum, u) => sum + (u - centre) ** 2, 0) / (n - 1), sigreg: mean, bell };
    pictures.fit();
    direction.set(Math.round(angle / DEGREE) % 360);
    show(values);
    const much = values.statistic < 2 * bell ? "no more than a Gaussian sample may get: from here the cloud looks like a bell"
      : `${tools.number(values.statistic / bell, 1)} times what a Gaussian sample gets on average`;
    tools.say(`At ${Math.round(angle / DEGREE)}° the shadow's variance is ${tools.number(values.variance, 2)} and T is ${tools.number(values.statistic, 1)}, ${much}.`);
    tools.redraw();
  }

  change();
  tools.help("Turn the direction by its ◆, by the slider, or with the arrow keys.");
  return {
    set(changes) { angle = changes.angle; change(); },
    state: () => ({ angle, points, shadow: [...shadow], all }),
  };
});
