// A map of words: pan, zoom, search; the nearest neighbours are those of all dimensions, not those of the flat picture.
// data: words, classes {name: [word, ...]}, runs {name: {vectors (V, D), places (V, 2)}}, and the word to begin with, if any.
// figure.play, for tests: set({run, word}) and state().
play.add("wordmap", function (root, data, tools) {
  const { words } = data, names = Object.keys(data.runs), classes = Object.keys(data.classes), COUNT = Math.min(10, words.length - 1);
  const index = new Map(words.map((word, i) => [word, i])), classOf = new Int16Array(words.length).fill(-1);
  classes.forEach((name, c) => data.classes[name].forEach((word) => { if (index.has(word)) classOf[index.get(word)] = c; }));
  const look = (c) => ({ colour: c % 5, shape: c % 7 });  // of a class; no two of the first 35 agree in both
  const runs = Object.fromEntries(names.map((name) => [name, { places: data.runs[name].places.lists(), unit: unit(data.runs[name].vectors) }]));
  const first = data.word ?? (classes.length ? data.classes[classes[0]].find((word) => index.has(word)) : words[0]);
  const now = { run: names[0], word: index.get(first) ?? 0, picked: -1 };
  let near, flat, labels = [];

  // ---- neighbours

  function unit(vectors) {  // rows of length 1; null where a row is 0
    return vectors.lists().map((row) => {
      const length = Math.hypot(...row);
      return length > 0 ? row.map((v) => v / length) : null;
    });
  }

  function nearest(rows, i, distance) {  // the package's order: by distance, equal ones as they stand
    const far = rows.map((row) => distance(rows[i], row));
    return [...far.keys()].filter((j) => j !== i).sort((a, b) => far[a] - far[b] || a - b).slice(0, COUNT).map((j) => [j, far[j]]);
  }

  const squared = (a, b) => a.reduce((sum, v, d) => sum + (v - b[d]) ** 2, 0);
  const angle = (a, b) => (a && b ? squared(a, b) / 2 : 1);  // 1 - cosine; 0 is at a right angle to every vector

  // ---- the map

  tools.row(tools.search({ label: "Find a word", words, choose }).element);
  const map = tools.plot({ x: [0, 1], y: [0, 1], ratio: 0.8, axes: false, draw });
  const view = tools.zoom(map, {
    name: "Map of words",
    tap(x, y) {
      const far = runs[now.run].places.map((p) => Math.hypot(map.toX(p[0]) - map.toX(x), map.toY(p[1]) - map.toY(y)));
      const i = far.indexOf(Math.min(...far));
      if (far[i] < 20) choose(i);
    },
  });

  function draw(pen, colours) {
    const { places } = runs[now.run], { context } = pen, special = new Set([now.word, ...near.map(([j]) => j)]);
    const inside = [...words.keys()].filter((i) => {
      const [x, y] = places[i];
      return x >= map.x[0] && x <= map.x[1] && y >= map.y[0] && y <= map.y[1];
    });
    const dots = (list, style) => pen.dots(list.map((i) => places[i][0]), list.map((i) => places[i][1]), style);
    const shade = (i) => (classOf[i] < 0 ? colours.soft : colours.series[look(classOf[i]).colour]);
    const bold = (i) => special.has(i) || classOf[i] === now.picked;

    context.globalAlpha = 0.6;
    dots(inside.filter((i) => classOf[i] < 0 && !special.has(i)), { colour: colours.series[5], size: 1.7 });
    classes.forEach((_, c) => {
      context.globalAlpha = now.picked < 0 || now.picked === c ? 1 : 0.35;
      dots(inside.filter((i) => classOf[i] === c), { ...look(c), colour: colours.series[look(c).colour], size: now.picked === c ? 5 : 3.5 });
    });
    context.globalAlpha = 1;
    const [x0, y0] = places[now.word];
    for (const [j] of near) pen.line([x0, places[j][0]], [y0, places[j][1]], { colour: colours.ink, width: 1, dash: [2, 3] });
    for (const i of special) {
      context.strokeStyle = colours.ink; context.lineWidth = i === now.word ? 2.5 : 1.5; context.beginPath();
      context.arc(map.toX(places[i][0]), map.toY(places[i][1]), i === now.word ? 8 : 6, 0, 7); context.stroke();
    }

    // Labels: the word and its neighbours, the class picked, then as the words stand; none on another, more as one zooms in.
    labels = [];
    const order = [...special, ...inside.filter((i) => bold(i) && !special.has(i)), ...inside.filter((i) => !bold(i))];
    const most = special.size + map.width / 12 * view.times(), seen = new Set(inside);
    context.textBaseline = "middle"; context.textAlign = "left"; context.lineJoin = "round"; context.lineWidth = 3; context.strokeStyle = colours.back;
    for (const i of order) {
      if (labels.length >= most) break;
      if (!seen.has(i)) continue;
      context.font = special.has(i) ? "bold 12px sans-serif" : "11px sans-serif";
      const wide = context.measureText(words[i]).width, x = map.toX(places[i][0]), y = map.toY(places[i][1]);
      const free = [[x + 7, y], [x - 7 - wide, y], [x - wide / 2, y - 13], [x - wide / 2, y + 13]]
        .map(([left, middle]) => ({ word: words[i], left, top: middle - 7, right: left + wide, bottom: middle + 7 }))
        .find((a) => a.left >= 0 && a.right <= map.width && a.top >= 0 && a.bottom <= map.height
          && !labels.some((b) => a.left < b.right + 3 && b.left < a.right + 3 && a.top < b.bottom && b.top < a.bottom));
      if (!free) continue;
      labels.push(free);
      context.strokeText(words[i], free.left, free.top + 7);
      context.fillStyle = special.has(i) ? colours.ink : shade(i);
      context.fillText(words[i], free.left, free.top + 7);
    }
  }

  function whole() {  // at first, where all but a few of the words are
    const sorted = [0, 1].map((d) => runs[now.run].places.map((p) => p[d]).sort((a, b) => a - b));
    const [all, most] = [0, 0.01].map((cut) => {
      const skip = Math.floor(cut * words.length), [x, y] = sorted.map((list) => [list[skip], list[list.length - 1 - skip]]);
      return { centre: [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2], half: 0.55 * Math.max(x[1] - x[0], (y[1] - y[0]) / 0.8, 1e-9) };
    });
    const [cx, cy] = all.centre;
    view.home([cx - all.half, cx + all.half], [cy - 0.8 * all.half, cy + 0.8 * all.half], Math.min(1, most.half / all.half), most.centre);
    view.reach(...runs[now.run].places[now.word]);
  }

  // ---- controls

  tools.row(...view.elements, tools.choice({
    label: "Run", options: names.map((name) => [name, name]), value: now.run,
    change(name) { now.run = name; whole(); change(); },
  }).element);
  const legend = classes.map((name, c) => {
    const button = tools.button("", () => { now.picked = now.picked === c ? -1 : c; change(); });
    button.append(tools.mark(look(c).colour, look(c).shape), name);
    return button;
  });
  tools.row(...legend).classList.add("play-legend");
  const title = tools.make("p", { class: "play-title" }), list = tools.make("ol", { class: "play-list" });
  root.append(title, list);
  const show = tools.readings([["same", "of these, in the word's class"], ["flat", "of these, among its ten nearest on the flat map"]]);

  function choose(i) { now.word = i; view.reach(...runs[now.run].places[i]); change(); }

  function change() {
    const { places, unit: rows } = runs[now.run], word = words[now.word], own = classOf[now.word];
    near = nearest(rows, now.word, angle).map(([j, far]) => [j, 1 - far]);
    flat = new Set(nearest(places, now.word, squared).map(([j]) => j));
    title.textContent = `Nearest to “${word}” in all ${data.runs[now.run].vectors.shape[1]} dimensions, with the cosine`;
    const held = list.contains(document.activeElement);
    list.replaceChildren(...near.map(([j, cosine]) => {
      const button = tools.button(words[j], () => choose(j));
      if (classOf[j] >= 0) button.prepend(tools.mark(look(classOf[j]).colour, look(classOf[j]).shape));
      return tools.make("li", {}, button, tools.make("span", { "data-value": cosine }, tools.number(cosine)));
    }));
    if (held) list.querySelector("button").focus({ preventScroll: true });
    legend.forEach((button, c) => button.setAttribute("aria-pressed", String(c === now.picked)));
    const values = { same: own < 0 ? NaN : near.filter(([j]) => classOf[j] === own).length, flat: near.filter(([j]) => flat.has(j)).length };
    show(values);
    tools.say(`${word}${own < 0 ? "" : ` (${classes[own]})`}: nearest are ${near.slice(0, 5).map(([j]) => words[j]).join(", ")}.`);
    tools.redraw();
  }

  change();
  whole();
  tools.help(
    "Drag or pinch the map, click a word, or click one of its neighbours in the list. Once the map has been clicked, the wheel zooms. " +
    "Keys on the map: arrows, + and \u2212, 0 for all. A class picked in the legend stands out.",
  );

  return {
    set(changes) {
      if ("run" in changes) now.run = changes.run;
      if ("word" in changes) now.word = index.get(changes.word);
      whole();
      change();
    },
    state: () => ({
      run: now.run, word: words[now.word], near: near.map(([j, cosine]) => [words[j], cosine]), flat: [...flat].map((j) => words[j]),
      labels, x: map.x, y: map.y, width: map.width, height: map.height, times: view.times(),
    }),
  };
});
