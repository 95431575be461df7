// A film with a lambda: an embedding during training, for each of some lambdas, and what was measured.
// data: lambdas (L), epochs (E), places (L, E, N, 2), colour (N), r2 and isotropy (L, E). Optional: lambda and epoch to begin with.
// figure.play, for tests: set({lambda, epoch}), by their places in the lists, and state().
play.add("lambdas", function (root, data, tools) {
  const { lambdas, epochs, places } = data, [, , N] = places.shape, LAST = epochs.length - 1, CURVES = ["r2", "isotropy"];
  const list = (values) => (Array.isArray(values) ? values : [...values.values]);
  const settings = list(lambdas), times = list(epochs), shade = [...data.colour.values];
  const curve = (name, l) => times.map((_, e) => data[name].at(l, e));
  const now = { lambda: Math.max(0, settings.indexOf(data.lambda ?? settings[0])), epoch: Math.max(0, times.indexOf(data.epoch ?? times[LAST])), close: false };
  const [darkest, brightest] = [Math.min(...shade), Math.max(...shade)];
  const palette = [[65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [210, 200, 30]];  // viridis without its ends
  const tones = shade.map((v) => {
    const at = (v - darkest) / (brightest - darkest || 1) * (palette.length - 1), i = Math.min(palette.length - 2, Math.floor(at));
    return `rgb(${palette[i].map((a, c) => Math.round(a + (at - i) * (palette[i + 1][c] - a))).join(" ")})`;
  });
  const frame = () => Array.from({ length: N }, (_, i) => [0, 1].map((d) => places.at(now.lambda, now.epoch, i, d)));
  let largest = 0;
  for (const v of places.values) largest = Math.max(largest, Math.abs(v));
  let points;

  const panels = tools.panels();
  const cloud = tools.plot({
    parent: panels, title: "The embedding, coloured along the spiral", x: [-1, 1], y: [-1, 1], ratio: "equal",
    draw(pen) { pen.dots(points.map((p) => p[0]), points.map((p) => p[1]), { colour: tones, size: Math.max(2, cloud.width / 130) }); },
  });
  const lowest = Math.min(0, ...CURVES.flatMap((name) => [...data[name].values]));
  tools.plot({
    parent: panels, title: "R² (line) and isotropy (dashed) against epoch; thin: the other λ", x: [times[0], times[LAST]], y: [lowest, 1.05], ratio: 0.6, xlabel: "epoch",
    draw(pen, colours) {
      pen.line([times[now.epoch], times[now.epoch]], [lowest, 2], { colour: colours.soft, width: 1, dash: [3, 4] });
      CURVES.forEach((name, i) => {
        const colour = colours.series[i], dash = i ? [7, 3] : [];
        pen.context.globalAlpha = 0.45;
        settings.forEach((_, l) => { if (l !== now.lambda) pen.line(times, curve(name, l), { colour, width: 0.8, dash }); });
        pen.context.globalAlpha = 1;
        pen.line(times, curve(name, now.lambda), { colour, width: 2.5, dash });
        pen.dots([times[now.epoch]], [data[name].at(now.lambda, now.epoch)], { colour, size: 5, shape: i });
      });
    },
  });
  const legend = ["R² of a linear probe", "isotropy"].map((words, i) => tools.make("span", {}, tools.mark(i, i), words));
  tools.row(...legend);
  const weight = tools.slider({ label: "λ", min: 0, max: settings.length - 1, step: 1, value: now.lambda, text: (l) => String(settings[l]), input(l) { now.lambda = l; change(); } });
  const clock = tools.slider({ label: "Epoch", min: 0, max: LAST, step: 1, value: now.epoch, text: (e) => String(times[e]), input(e) { player.stop(); now.epoch = e; change(); } });
  const player = tools.player({
    interval: 180,
    step() {  // from the end it begins again
      now.epoch = now.epoch === LAST ? 0 : now.epoch + 1;
      change();
      return now.epoch < LAST;
    },
  });
  const lens = tools.button("Magnify", () => { now.close = !now.close; change(); });
  tools.row(weight.element);
  tools.row(clock.element, ...player.elements, lens);
  const show = tools.readings([["lambda", "λ"], ["epoch", "epoch"], ["r2", "R² of a linear probe"], ["isotropy", "isotropy"]]);

  function change() {
    points = frame();
    const limit = now.close ? 1.1 * Math.max(1e-9, ...points.flat().map(Math.abs)) : 1.05 * largest;
    cloud.x = cloud.y = [-limit, limit];
    weight.set(now.lambda); clock.set(now.epoch);
    lens.setAttribute("aria-pressed", String(now.close));
    const values = { lambda: settings[now.lambda], epoch: times[now.epoch], r2: data.r2.at(now.lambda, now.epoch), isotropy: data.isotropy.at(now.lambda, now.epoch) };
    show(values);
    tools.say(`λ = ${values.lambda}, epoch ${values.epoch}: R² is ${tools.number(values.r2, 2)}, isotropy ${tools.number(values.isotropy, 2)}.`);
    tools.redraw();
  }

  change();
  tools.help("“Magnify” makes each picture fill its frame: look at the numbers on the axes. Sliders take the arrow keys.");
  return {
    set(changes) { player.stop(); Object.assign(now, changes); change(); },
    state: () => ({ ...now, points, limit: cloud.x[1] }),
  };
});
