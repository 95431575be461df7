// needs losses.js
// A spread to pull: a cloud shrinks to one spot and grows again; what the fingerprint and the penalties make of it, and how hard
// each pushes. data: points (N, 2); optional: spread, losses (default: all of LOSSES; "vicreg.variance"
// is one term of one), frequency of the ring.
// figure.play, for tests: set({spread}) and state().
play.add("spread", function (root, data, tools) {
  const losses = data.losses || Object.keys(LOSSES), FREQUENCY = data.frequency ?? 0.9, LIMIT = 4.5, MOST = 2, LOW = -3.1, PER = 0.05;
  const given = data.points.lists(), { centred, xx, yy } = moments(given), wide = Math.sqrt((xx + yy) / 2);
  const base = centred.map((p) => p.map((v) => v / wide));  // spread 1: the standard deviation per dimension, averaged as variances
  const short = (key) => {
    const [loss, term] = key.split("."), name = LOSSES[loss].label.split(":")[0];
    return term ? `${name}'s ${term} term` : name;
  };
  let spread = data.spread ?? 1, shadow, pushes;

  const at = (s) => base.map(([x, y]) => [s * x, s * y]);
  // The loss at a spread, and its push: minus its gradient, along the way on which the cloud grows.
  function push(key, s) {
    const [loss, term] = key.split("."), whole = lossOf(at(s), loss, 1);
    const { value, gradient } = term ? LOSSES[loss].terms.find(([, name]) => name === term)[2](at(s)) : { value: whole.penalty, gradient: whole.penaltyGradient };
    return { value, push: 0 - gradient.reduce((sum, g, i) => sum + g[0] * base[i][0] + g[1] * base[i][1], 0) };
  }
  const half = Object.fromEntries(losses.map((key) => [key, Math.abs(push(key, 0.5).push)]));
  const powers = Array.from({ length: 45 }, (_, i) => -3 + i * (3 + Math.log10(MOST)) / 44);
  const curves = Object.fromEntries(losses.map((key) => [key, powers.map((p) => push(key, 10 ** p).push / half[key])]));
  const style = (i, colours) => ({ colour: colours.series[i % 5], dash: [[], [7, 3], [2, 3], [7, 3, 2, 3], [12, 4]][i % 5] });

  const panels = tools.panels();
  panels.classList.add("play-two");
  const cloud = tools.plot({
    parent: panels, title: "The cloud; pull its spread at ◆", x: [-LIMIT, LIMIT], y: [-LIMIT, LIMIT], ratio: "equal",
    draw(pen, colours) {
      const turns = Array.from({ length: 73 }, (_, i) => i * Math.PI / 36), now = at(spread);
      for (const [r, style] of [[1, { colour: colours.ink, width: 1, dash: [3, 4] }], [spread, { colour: colours.series[1], width: 2 }]]) {
        pen.line(turns.map((a) => r * Math.cos(a)), turns.map((a) => r * Math.sin(a)), style);
      }
      pen.dots(now.map((p) => p[0]), now.map((p) => p[1]), { colour: colours.series[0], size: 2 });
    },
  });
  tools.plot({
    parent: panels, title: "Its shadow on the horizontal, wrapped round a circle; its mean ✖", x: [-1.2, 1.2], y: [-1.2, 1.2], ratio: "equal", axes: false,
    draw(pen, colours) {
      const turns = Array.from({ length: 73 }, (_, i) => i * Math.PI / 36), mean = characteristic(shadow, FREQUENCY);
      pen.line(turns.map(Math.cos), turns.map(Math.sin), { colour: colours.grid, width: 1 });
      pen.dots(Array.from(shadow, (u) => Math.cos(FREQUENCY * u)), Array.from(shadow, (u) => Math.sin(FREQUENCY * u)), { colour: colours.series[0], size: 2.5 });
      pen.dots([mean[0]], [mean[1]], { colour: colours.series[1], size: 7, shape: 6 });
      pen.text(`mean ${tools.number(Math.hypot(...mean), 2)}`, 0, -0.3, { colour: colours.ink, align: "center" });
    },
  });
  tools.plot({
    parent: panels, title: "Fingerprint (dashed), the bell's (line), and the gap", x: [0, 5], y: [-0.5, 1.1], ratio: 0.75, xlabel: "frequency t",
    draw(pen, colours) {
      const t = Array.from({ length: 101 }, (_, i) => i / 20), bell = t.map((v) => Math.exp(-v * v / 2)), real = t.map((v) => characteristic(shadow, v)[0]);
      pen.area(t, bell, real, { colour: colours.series[1] });
      pen.line(t, bell, { colour: colours.ink });
      pen.line(t, real, { colour: colours.series[1], dash: [7, 3] });
    },
  });
  const heights = Object.values(curves).flat();
  tools.plot({
    parent: panels, title: "Push outwards, relative to that at 0.5", x: [-3, Math.log10(MOST)], xtick: (p) => 10 ** p, ratio: 0.75, xlabel: "spread (logarithmic)",
    y: [Math.max(-3, 1.1 * Math.min(...heights, -0.2)), Math.min(3, 1.1 * Math.max(...heights))],
    draw(pen, colours) {
      pen.line([-3, 1], [0, 0], { colour: colours.ink, width: 1 });
      const place = Math.max(-3, Math.log10(Math.max(spread, 1e-9)));
      pen.line([place, place], [-9, 9], { colour: colours.soft, width: 1, dash: [3, 4] });
      losses.forEach((key, i) => {
        pen.line(powers, curves[key], style(i, colours));
        pen.dots([place], [pushes[key].push / half[key]], { colour: style(i, colours).colour, size: 5, shape: i });
      });
    },
  });
  const legend = losses.map((key, i) => tools.make("span", {}, tools.mark(i % 5, i), short(key)));
  tools.row(...legend);

  // The slider's left end is 0; from there on it counts powers of ten.
  const powerOf = (s) => (s > 0 ? Math.max(LOW, Math.log10(s)) : LOW), spreadOf = (p) => (p <= LOW + 1e-9 ? 0 : Math.min(MOST, 10 ** p));
  tools.handles(cloud, {
    places: () => [[spread * Math.SQRT1_2, spread * Math.SQRT1_2]], kind: "play-knob", colour: (c) => c.series[1],
    name: () => `Spread ${shown()}`,
    move(_, x, y) { spread = Math.min(MOST, Math.hypot(x, y)); change(); },
    nudge(_, dx, dy) { spread = spreadOf(Math.max(LOW, powerOf(spread) + Math.sign(dx + dy) * PER)); change(); },
  });
  const shown = () => String(+spread.toPrecision(2));
  const slider = tools.slider({ label: "Spread", min: LOW, max: LOW + PER * Math.ceil((Math.log10(MOST) - LOW) / PER), step: PER, value: powerOf(spread), text: shown, input(p) { spread = spreadOf(p); change(); } });
  tools.row(slider.element, ...[0, 0.01, 0.5, 1, 2].map((s) => tools.button(String(s), () => { spread = s; change(); })));
  const show = tools.readings([
    ["area", "the gap: T/N of this shadow"],
    ...losses.flatMap((key) => [[key, short(key)], [key + "-push", `${short(key)}: push outwards`]]),
  ]);

  function change() {
    shadow = shadowOf(at(spread), 0);
    pushes = Object.fromEntries(losses.map((key) => [key, push(key, spread)]));
    slider.set(powerOf(spread));
    const values = { area: eppsPulley(shadow) / base.length };
    for (const key of losses) Object.assign(values, { [key]: pushes[key].value, [key + "-push"]: pushes[key].push });
    show(values);
    const told = losses.map((key) => `${short(key)} ${pushes[key].push === 0 ? "exactly 0" : tools.number(pushes[key].push / half[key])}`);
    tools.say(`Spread ${shown()}. Push outwards, where that at spread 0.5 is 1: ${told.join(", ")}.`);
    tools.redraw();
  }

  change();
  tools.help("Pull the ◆ on the ring, or use slider and arrow keys. The gap counts squared, and weighted by the bell.");
  return {
    set(changes) { spread = changes.spread; change(); },
    state: () => ({ spread, base, losses, mean: characteristic(shadow, FREQUENCY), curves, powers }),
  };
});
