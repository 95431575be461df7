// needs losses.js
// A cloud between two pulls: prediction draws it together, SIGReg keeps it round. Touch pushes points aside.
// figure.play, for tests: set({lambda}), which settles the cloud at once, and state().
play.add("hero", function (root, data, tools) {
  const LIMIT = 2.6, SLICES = 24, shade = Array.from(data.shade.values);
  let points = data.points.lists(), lambda = data.lambda, timer = null;

  // Gradient descent on (1 - lambda) * half the summed squared distance from the mean + lambda * SIGReg.
  function step() {
    const { centred } = moments(points), { gradient } = sigreg(points, SLICES);
    let farthest = 0;
    points = points.map(([x, y], i) => {
      const go = [0, 1].map((d) => -0.25 * ((1 - lambda) * centred[i][d] + lambda * gradient[i][d]));
      const far = Math.hypot(...go), cut = far > 0.3 ? 0.3 / far : 1;
      farthest = Math.max(farthest, far * cut);
      return [x + cut * go[0], y + cut * go[1]];
    });
    return farthest;
  }

  const spread = () => { const { xx, yy } = moments(points); return Math.sqrt((xx + yy) / 2); };
  // On its way to one spot the cloud stops short: there, no gradient would be left to bring it back.
  const still = () => (spread() < 0.02 && lambda < 0.38) || step() < 2e-3;

  function settle() {
    if (tools.calm()) { for (let k = 0; k < 120 && !still(); k++); return shown(); }
    tools.redraw();
    timer = timer || setInterval(() => { if (still()) { stop(); tell(); } tools.redraw(); }, 33);
  }
  function stop() { clearInterval(timer); timer = null; }
  function shown() { tell(); tools.redraw(); }
  function tell() {
    tools.say(`λ = ${lambda.toFixed(2)}: the cloud's standard deviation is ${tools.number(spread(), 2)}; collapse is 0, a round Gaussian has 1.`);
  }

  const cloud = tools.plot({
    x: [-LIMIT / 0.6, LIMIT / 0.6], y: [-LIMIT, LIMIT], ratio: 0.6, axes: false,
    draw(pen, colours) {
      const circle = Array.from({ length: 73 }, (_, i) => i * Math.PI / 36);
      for (const r of [1, 2]) {
        pen.line(circle.map((a) => r * Math.cos(a)), circle.map((a) => r * Math.sin(a)), { colour: colours.grid, width: 1, dash: [3, 5] });
      }
      pen.text("1", 1.05, 0.1, { colour: colours.soft });
      pen.text("2", 2.05, 0.1, { colour: colours.soft });
      pen.dots(points.map((p) => p[0]), points.map((p) => p[1]), { colour: shade.map((s) => data.palette[s]), size: cloud.width / 150 });
    },
  });
  cloud.stage.style.cursor = "crosshair";
  cloud.stage.style.touchAction = "pan-y";  // a finger that goes up or down scrolls the page
  cloud.stage.addEventListener("pointermove", (event) => {
    const box = cloud.stage.getBoundingClientRect();
    const x = cloud.fromX(event.clientX - box.left), y = cloud.fromY(event.clientY - box.top);
    let pushed = false;
    points = points.map(([a, b]) => {
      const far = Math.hypot(a - x, b - y), push = 0.7 - far;
      if (push <= 0) return [a, b];
      pushed = true;
      return [a + push * (a - x) / (far + 1e-6), b + push * (b - y) / (far + 1e-6)];
    });
    if (pushed) tools.calm() ? shown() : settle();
  });

  const weight = tools.slider({
    label: "λ", min: 0, max: 1, step: 0.01, value: lambda, text: (v) => v.toFixed(2),
    input(v) { lambda = v; settle(); },
  });
  let seed = 1;
  const random = () => { seed = (seed * 16807) % 2147483647; return seed / 2147483647; };
  tools.row(weight.element, tools.button("Stir", () => {
    points = points.map(() => [(2 * random() - 1) * 4, (2 * random() - 1) * 2.5]);
    settle();
  }), tools.button("Unroll the spiral", () => { points = data.spiral.lists(); settle(); }));
  shown();

  return {
    set({ lambda: value }) {
      stop();
      lambda = value; weight.set(value);
      for (let k = 0; k < 300 && !still(); k++);
      shown();
    },
    state: () => ({ points, lambda, spread: spread() }),
  };
});
