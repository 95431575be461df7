// needs losses.js
// needs shadows.js
// SIGReg by hand: points to drag, a direction to turn, and what the penalty sees and wants.
// figure.play, for tests: set({points, angle, loss, lambda}) and state().
play.add("sigreg", function (root, data, tools) {
  const LIMIT = data.limit, DEGREE = Math.PI / 180, LEAST = 3, MOST = 60;
  const presets = Object.fromEntries(Object.entries(data.presets).map(([name, array]) => [name, array.lists()]));
  const now = { points: presets[data.start].map((p) => [...p]), angle: data.angle * DEGREE, loss: data.losses[0], lambda: data.lambda };
  let found, shadow;

  // ---- pictures

  const panels = tools.panels();
  const cloud = tools.plot({
    parent: panels, title: "Drag the points, or turn the direction ◆", tall: true, x: [-LIMIT, LIMIT], y: [-LIMIT, LIMIT], ratio: "equal",
    draw(pen, colours) {
      const c = Math.cos(now.angle), s = Math.sin(now.angle), far = 2 * LIMIT;
      pen.line([-far * c, far * c], [-far * s, far * s], { colour: colours.series[1], width: 1.5, dash: [6, 4] });
      now.points.forEach(([x, y], i) => {  // each point's place on the line
        pen.line([x, shadow[i] * c], [y, shadow[i] * s], { colour: colours.grid, width: 1 });
      });
      pen.dots(Array.from(shadow, (u) => u * c), Array.from(shadow, (u) => u * s), { colour: colours.series[1], size: 2 });
      const longest = Math.max(...found.gradient.map((g) => Math.hypot(...g))), scale = longest > 1e-9 ? Math.min(40, 0.8 / longest) : 0;
      now.points.forEach(([x, y], i) => {
        pen.arrow(x, y, x - scale * found.gradient[i][0], y - scale * found.gradient[i][1], { colour: colours.ink });
      });
    },
  });
  const pictures = shadowPlots(tools, panels, () => shadow);

  tools.handles(cloud, {
    places: () => now.points, step: 0.1,
    name: (i, x, y) => `Point ${i + 1} of ${now.points.length} at ${tools.number(x, 1)}, ${tools.number(y, 1)}`,
    move(i, x, y) { now.points[i] = [x, y]; change(); },
    remove(i) { if (now.points.length > LEAST) { now.points.splice(i, 1); change(); } },
  });
  tools.handles(cloud, {
    places: () => [[0.93 * LIMIT * Math.cos(now.angle), 0.93 * LIMIT * Math.sin(now.angle)]], kind: "play-knob", colour: (c) => c.series[1],
    name: () => `Direction at ${Math.round(now.angle / DEGREE)} degrees`,
    move(_, x, y) { turn(Math.atan2(y, x)); },
    nudge(_, dx, dy) { turn(now.angle + Math.sign(dy - dx) * 2 * DEGREE); },
  });

  // ---- controls

  const names = { round: "round", collapsed: "collapsed", line: "line", clumps: "two clumps", corners: "four corners", zero: "all at 0" };
  tools.row(tools.make("span", {}, "Start from"), ...Object.keys(presets).map((name) => tools.button(names[name] || name, () => {
    now.points = presets[name].map((p) => [...p]);
    player.stop(); change();
  })));
  const direction = tools.slider({ label: "Direction", min: 0, max: 359, step: 1, value: 0, text: (v) => v + "°", input: (v) => turn(v * DEGREE) });
  const player = tools.player({
    step() {
      const next = descend(now.points, now.loss, now.lambda);
      now.points = next.points.map((p) => p.map((v) => Math.max(-LIMIT, Math.min(LIMIT, v))));
      change();
      return next.farthest > 1e-3;
    },
  });
  tools.row(direction.element, tools.button("Add a point", () => {
    const turn = now.points.length * 2.4;  // never twice the same place
    if (now.points.length < MOST) now.points.push([Math.cos(turn), Math.sin(turn)]);
    change();
  }), tools.button("Remove one", () => { if (now.points.length > LEAST) now.points.pop(); change(); }));
  const penalty = tools.choice({
    label: "Penalty", options: data.losses.map((key) => [key, LOSSES[key].label]), value: now.loss,
    change(key) { now.loss = key; change(); },
  });
  // The slider's left end is 0; from there on it counts powers of ten.
  const LOW = -3.1, lambdaAt = (v) => (v <= LOW ? 0 : 10 ** v), sliderAt = (l) => (l > 0 ? Math.max(LOW, Math.log10(l)) : LOW);
  const weight = tools.slider({
    label: "λ", min: LOW, max: 1, step: 0.05, value: sliderAt(now.lambda), text: () => String(+now.lambda.toPrecision(2)),
    input(v) { now.lambda = lambdaAt(v); weight.set(v); change(); },
  });
  tools.row(penalty.element, weight.element, ...data.lambdas.map((l) => tools.button(`λ = ${l}`, () => { now.lambda = l; change(); })));
  tools.row(tools.make("span", {}, "Gradient descent"), ...player.elements);

  const show = tools.readings([
    ["count", "points N"], ["statistic", "T of this shadow"], ["sigreg", "SIGReg, 64 shadows"], ["variance", "VICReg's variance"],
    ["covariance", "VICReg's covariance"], ["visreg", "VISReg, 64 shadows"], ["pull", "pull to the mean"], ["penalty", "chosen penalty"], ["total", "pull + λ × penalty"],
  ]);

  function turn(angle) { now.angle = ((angle / DEGREE + 360) % 360) * DEGREE; change(); }

  function change() {
    found = lossOf(now.points, now.loss, now.lambda);
    shadow = shadowOf(now.points, now.angle);
    pictures.fit();
    direction.set(Math.round(now.angle / DEGREE) % 360); weight.set(sliderAt(now.lambda)); penalty.set(now.loss);
    const values = {
      count: now.points.length, statistic: eppsPulley(shadow), sigreg: sigreg(now.points).value, variance: variancePenalty(now.points).value,
      covariance: covariancePenalty(now.points).value, visreg: lossOf(now.points, "visreg", 1).penalty, pull: found.pull, penalty: found.penalty, total: found.total,
    };
    show(values);
    tools.say(verdict(values));
    tools.redraw();
    return values;
  }

  function verdict({ count, sigreg: value, variance, covariance }) {
    const rest = Math.hypot(...found.gradient.flat()) < 1e-6 ? " The gradient is 0: nothing moves." : "";
    const second = variance < 0.01 && covariance < 0.01 ? " Both terms of VICReg are near 0: they see the covariance only." : "";
    const worst = tools.number(0.409 * count, 1);
    return `SIGReg is ${tools.number(value, 2)}. A Gaussian sample gets 1.06 on average, ${count} points on one spot at 0 get ${worst}.${second}${rest}`;
  }

  change();
  tools.help(
    "Arrows point where one step of descent goes; all are scaled alike. Keys: Tab to a point, arrow keys to move it (with Shift, a tenth), " +
    "Page Up and Page Down to choose another, Delete to remove it.",
  );

  return {
    set(changes) {
      player.stop();
      if (changes.points) now.points = changes.points.map((p) => [...p]);
      for (const key of ["angle", "loss", "lambda"]) if (key in changes) now[key] = changes[key];
      change();
    },
    state() {
      const knots = Array.from({ length: KNOTS }, (_, k) => -T_MAX + k * KNOT_STEP);
      return {
        ...now, values: change(), gradient: found.gradient, penaltyGradient: found.penaltyGradient,
        terms: Object.fromEntries(LOSSES[now.loss].terms.map(([, name, of]) => [name, of(now.points)])),
        characteristic: knots.map((t) => [t, ...characteristic(shadow, t)]),
      };
    },
  };
});
