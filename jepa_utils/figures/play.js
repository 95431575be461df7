// Playgrounds: things to touch inside a page. Every playground brings this script; the first copy serves them all.
const play = window.jepaPlay = window.jepaPlay || (function () {
  "use strict";
  const makers = {};

  // ---- Data: arrays are numbers of 8 or 16 bits, deflated, in base64 (see `_packed` in play.py)

  async function unpacked(value) {
    if (Array.isArray(value)) return Promise.all(value.map(unpacked));
    if (value === null || typeof value !== "object") return value;
    if (!("__array__" in value)) {
      const entries = Object.entries(value).map(async ([key, part]) => [key, await unpacked(part)]);
      return Object.fromEntries(await Promise.all(entries));
    }
    const raw = Uint8Array.from(atob(value.__array__), (c) => c.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const whole = value.bits === 8 ? new Uint8Array(buffer) : new Uint16Array(buffer);
    const values = Float64Array.from(whole, (q) => value.low + q * value.step), shape = value.shape;
    const size = values.length / shape[0];
    return {
      values, shape,
      row: (i) => values.subarray(i * size, (i + 1) * size),
      at: (...place) => values[place.reduce((sum, index, axis) => sum * shape[axis] + index, 0)],
      // an array of lists, such as [[x, y], ...]
      lists: () => Array.from({ length: shape[0] }, (_, i) => Array.from(values.subarray(i * size, (i + 1) * size))),
    };
  }

  // ---- Elements

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function number(value, digits = 3) {  // as text, with a true minus sign
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value), places = Math.min(digits, size >= 100 ? 0 : size >= 10 ? 1 : 9);
    const text = size < 0.5 * 10 ** -places ? (0).toFixed(places) : value.toFixed(places);
    return text.replace("-", "\u2212");
  }

  function ticks([low, high], wanted) {
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return found;
  }

  // Outlines of marks, about 10 units across: series differ in shape as well as in colour.
  const SHAPES = [
    "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z", "M-4.4 -4.4H4.4V4.4H-4.4Z", "M0 -5.4L5.2 4.2H-5.2Z", "M0 -6L5.2 0L0 6L-5.2 0Z", "M0 5.4L5.2 -4.2H-5.2Z",
    "M-1.7 -5.4H1.7V-1.7H5.4V1.7H1.7V5.4H-1.7V1.7H-5.4V-1.7H-1.7Z", "M-2.6 -5.2L0 -2.6L2.6 -5.2L5.2 -2.6L2.6 0L5.2 2.6L2.6 5.2L0 2.6L-2.6 5.2L-5.2 2.6L-2.6 0L-5.2 -2.6Z",
  ];
  const clamp = (v, [low, high]) => Math.max(low, Math.min(high, v));

  // ---- What a playground is given

  function toolbox(root) {
    const drawers = [];
    let waiting = false, saying = null;
    const said = make("p", { class: "play-said", role: "status", "aria-live": "polite" });
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

    function colours() {
      const style = getComputedStyle(root), read = (name) => style.getPropertyValue("--play-" + name).trim();
      return {
        ink: read("ink"), soft: read("soft"), grid: read("grid"), back: read("back"),
        series: [1, 2, 3, 4, 5, 6].map(read), dark: document.documentElement.dataset.theme === "dark",
      };
    }

    function redraw() {  // once per frame, however often it is asked for
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; const now = colours(); drawers.forEach((draw) => draw(now)); });
    }

    function row(...elements) {
      const found = make("div", { class: "play-row" }, ...elements);
      root.append(found);
      return found;
    }

    function panels() {
      const found = make("div", { class: "play-panels" });
      root.append(found);
      return found;
    }

    // A canvas at the screen's density with axes. `draw(pen, colours)` is called at every redraw; x and y may be changed.
    // `ratio` is height over width; "equal" makes a unit as long on both axes. `xtick` and `ytick` turn a number into
    // what stands at its tick, such as (v) => 10 ** v.
    function plot({ parent = root, title = "", x, y, xlabel = "", ratio = 0.6, tall = false, axes = true, xtick = Number, ytick = Number, draw }) {
      const canvas = make("canvas", { "aria-hidden": "true" }), stage = make("div", { class: "play-stage" }, canvas);
      const heading = title ? [make("p", { class: "play-title" }, title)] : [];
      parent.append(make("div", { class: tall ? "play-panel play-tall" : "play-panel" }, ...heading, stage));
      const edge = axes ? { left: 30, right: 6, top: 6, bottom: xlabel ? 32 : 18 } : { left: 0, right: 0, top: 0, bottom: 0 };
      const found = { x, y, stage, width: 0, height: 0 };
      found.toX = (v) => edge.left + (v - found.x[0]) / (found.x[1] - found.x[0]) * (found.width - edge.left - edge.right);
      found.toY = (v) => edge.top + (found.y[1] - v) / (found.y[1] - found.y[0]) * (found.height - edge.top - edge.bottom);
      found.fromX = (p) => found.x[0] + (p - edge.left) / (found.width - edge.left - edge.right) * (found.x[1] - found.x[0]);
      found.fromY = (p) => found.y[1] - (p - edge.top) / (found.height - edge.top - edge.bottom) * (found.y[1] - found.y[0]);

      drawers.push((now) => {
        const dense = window.devicePixelRatio || 1;
        found.width = stage.clientWidth || 300;
        const across = found.width - edge.left - edge.right, equal = (found.y[1] - found.y[0]) / (found.x[1] - found.x[0]);
        found.height = ratio === "equal" ? Math.round(across * equal + edge.top + edge.bottom) : Math.round(found.width * ratio);
        canvas.style.height = found.height + "px";
        canvas.width = Math.round(found.width * dense);
        canvas.height = Math.round(found.height * dense);
        const context = canvas.getContext("2d");
        context.setTransform(dense, 0, 0, dense, 0, 0);
        context.font = "11px sans-serif";
        if (axes) scales(context, now);
        context.save();
        context.beginPath();
        context.rect(edge.left, edge.top, found.width - edge.left - edge.right, found.height - edge.top - edge.bottom);
        context.clip();
        draw(pen(context), now);
        context.restore();
      });

      function scales(context, now) {
        context.lineWidth = 1; context.strokeStyle = now.grid; context.fillStyle = now.soft;
        const bottom = found.height - edge.bottom, right = found.width - edge.right;
        context.textAlign = "center"; context.textBaseline = "top";
        for (const v of ticks(found.x, 6)) {
          context.beginPath(); context.moveTo(found.toX(v), edge.top); context.lineTo(found.toX(v), bottom); context.stroke();
          context.fillText(label(xtick(v)), found.toX(v), bottom + 4);
        }
        if (xlabel) context.fillText(xlabel, (edge.left + right) / 2, bottom + 19);
        context.textAlign = "right"; context.textBaseline = "middle";
        for (const v of ticks(found.y, 5)) {
          context.beginPath(); context.moveTo(edge.left, found.toY(v)); context.lineTo(right, found.toY(v)); context.stroke();
          context.fillText(label(ytick(v)), edge.left - 4, found.toY(v));
        }
      }

      function label(v) { return String(+v.toFixed(6)).replace("-", "\u2212"); }

      function pen(context) {  // all places in the units of the axes
        const colour = (value) => { context.strokeStyle = context.fillStyle = value; };
        return {
          context,
          line(xs, ys, { colour: c, width = 2, dash = [] }) {
            colour(c); context.lineWidth = width; context.setLineDash(dash); context.beginPath();
            xs.forEach((v, i) => context.lineTo(found.toX(v), found.toY(ys[i])));
            context.stroke(); context.setLineDash([]);
          },
          dots(xs, ys, { colour: c, size = 3, shape = 0 }) {  // one colour, or one per dot; a shape is a number from 0
            const outline = new Path2D(SHAPES[shape % SHAPES.length]);
            xs.forEach((v, i) => {
              colour(Array.isArray(c) ? c[i] : c);
              context.save(); context.translate(found.toX(v), found.toY(ys[i])); context.scale(size / 5, size / 5);
              context.fill(outline); context.restore();
            });
          },
          area(xs, from, to, { colour: c, alpha = 0.25 }) {  // between two curves
            colour(c); context.globalAlpha = alpha; context.beginPath();
            xs.forEach((v, i) => context.lineTo(found.toX(v), found.toY(from[i])));
            for (let i = xs.length - 1; i >= 0; i--) context.lineTo(found.toX(xs[i]), found.toY(to[i]));
            context.fill(); context.globalAlpha = 1;
          },
          bar(from, to, height, { colour: c, alpha = 0.45 }) {
            colour(c); context.globalAlpha = alpha;
            const top = found.toY(height), left = found.toX(from);
            context.fillRect(left + 0.5, top, found.toX(to) - left - 1, found.toY(0) - top);
            context.globalAlpha = 1;
          },
          arrow(x0, y0, x1, y1, { colour: c, width = 1.5 }) {
            const [a, b, p, q] = [found.toX(x0), found.toY(y0), found.toX(x1), found.toY(y1)];
            const length = Math.hypot(p - a, q - b), head = Math.min(5, length / 2), turn = Math.atan2(q - b, p - a);
            if (length < 1) return;
            colour(c); context.lineWidth = width; context.beginPath(); context.moveTo(a, b); context.lineTo(p, q);
            for (const side of [-0.5, 0.5]) {
              context.moveTo(p, q); context.lineTo(p - head * Math.cos(turn + side), q - head * Math.sin(turn + side));
            }
            context.stroke();
          },
          text(words, x0, y0, { colour: c, align = "left" }) {
            colour(c); context.textAlign = align; context.textBaseline = "middle";
            context.fillText(words, found.toX(x0), found.toY(y0));
          },
        };
      }
      return found;
    }

    // Points on a plot that are dragged, or moved by keys. They are one stop of the tab key; Page Up and Down go from
    // one to the next. `places()` lists where they are, `move(i, x, y)` puts one elsewhere and calls `redraw`.
    function handles(on, { places, move, name, remove = null, nudge = null, step = 0.1, kind = "", colour = null }) {
      const buttons = [];
      let current = 0;
      const put = (i, x, y) => move(i, clamp(x, on.x), clamp(y, on.y));

      function choose(i) {
        current = Math.max(0, Math.min(buttons.length - 1, i));
        buttons.forEach((b, j) => { b.tabIndex = j === current ? 0 : -1; });
        if (buttons[current]) buttons[current].focus({ preventScroll: true });
      }

      drawers.push((now) => {
        const list = places();
        while (buttons.length < list.length) buttons.push(button());
        while (buttons.length > list.length) {
          const last = buttons.pop(), had = document.activeElement === last;
          last.remove();
          if (had) choose(current);
        }
        current = Math.max(0, Math.min(buttons.length - 1, current));
        list.forEach(([x, y], i) => {
          const b = buttons[i];
          b.style.left = on.toX(x) + "px"; b.style.top = on.toY(y) + "px"; b.tabIndex = i === current ? 0 : -1;
          b.setAttribute("aria-label", name(i, x, y));
          if (colour) b.style.setProperty("--play-dot", colour(now));
        });
      });

      function button() {
        const b = make("button", { type: "button", class: ("play-handle " + kind).trim() });
        b.addEventListener("keydown", (event) => keyed(event, buttons.indexOf(b)));
        b.addEventListener("pointerdown", (event) => grabbed(event, b));
        on.stage.append(b);
        return b;
      }

      function keyed(event, i) {
        const far = event.shiftKey ? 0.1 * step : step;
        const way = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] }[event.key];
        const next = { PageDown: i + 1, PageUp: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
        if (way) nudge ? nudge(i, ...way) : put(i, places()[i][0] + way[0], places()[i][1] + way[1]);
        else if (next !== undefined) choose((next + buttons.length) % buttons.length);
        else if (event.key === "Delete" && remove) { current = Math.max(0, i - 1); remove(i); choose(current); }
        else return;
        event.preventDefault();
      }

      function grabbed(event, target) {
        if (event.button) return;
        const box = on.stage.getBoundingClientRect(), at = (e) => [e.clientX - box.left, e.clientY - box.top];
        const [px, py] = at(event);
        // where handles lie on one another, the one whose middle is nearest
        const distances = places().map(([x, y]) => Math.hypot(on.toX(x) - px, on.toY(y) - py));
        const i = distances.indexOf(Math.min(...distances));
        choose(i);
        const [x, y] = places()[i], offset = [on.toX(x) - px, on.toY(y) - py];
        const follow = (e) => {
          const now = on.stage.getBoundingClientRect();
          put(i, on.fromX(e.clientX - now.left + offset[0]), on.fromY(e.clientY - now.top + offset[1]));
        };
        const done = () => {
          for (const [name, act] of [["pointermove", follow], ["pointerup", done], ["pointercancel", done]]) target.removeEventListener(name, act);
        };
        target.setPointerCapture(event.pointerId);
        for (const [name, act] of [["pointermove", follow], ["pointerup", done], ["pointercancel", done]]) target.addEventListener(name, act);
        event.preventDefault();
      }
    }

    // A plot to pan and zoom within the window that it has now: drag, pinch, wheel (once the plot has been clicked, or with
    // Ctrl), arrow keys, + and \u2212, 0 for the whole. `tap(x, y)` is told of a press that did not move. Returns buttons, and
    // `home(x, y, part, centre)`, which sets another window and shows a part of it first, `reach(x, y)`, which brings a place
    // into view, and `times()`. Until one is nearer than at first, a finger that goes up or down scrolls the page.
    function zoom(on, { name, most = 40, tap = () => {} }) {
      const { stage } = on, fingers = new Map();
      let whole = [on.x, on.y], share = 1, first = 1, still = true;
      const middle = () => [on.x, on.y].map(([low, high]) => (low + high) / 2);
      const at = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      const units = ([px, py]) => [on.fromX(px), on.fromY(py)];
      const mean = (list) => [0, 1].map((d) => list.reduce((sum, p) => sum + p[d], 0) / list.length);

      function look(centre, part) {
        share = clamp(part, [1 / most, 1]);
        [on.x, on.y] = whole.map(([low, high], d) => {
          const half = share * (high - low) / 2, c = clamp(centre[d], [low + half, high - half]);
          return share === 1 ? [low, high] : [c - half, c + half];
        });
        stage.style.touchAction = share < first ? "none" : "pan-y";
        stage.style.cursor = share < 1 ? "grab" : "";
        redraw();
      }
      function nearer(times, fixed = middle()) {  // `fixed` stays where it is on the screen
        const part = clamp(share / times, [1 / most, 1]), real = part / share;
        look(middle().map((c, d) => fixed[d] + (c - fixed[d]) * real), part);
      }
      function move(from, to) { look(middle().map((c, d) => c + from[d] - to[d]), share); }
      function step(across, up) { look([middle()[0] + across * (on.x[1] - on.x[0]), middle()[1] + up * (on.y[1] - on.y[0])], share); }

      stage.tabIndex = 0;
      stage.setAttribute("role", "application");
      stage.setAttribute("aria-label", name + ". Arrow keys move, plus and minus zoom, 0 shows the whole.");
      stage.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        still = fingers.size === 0;
        fingers.set(event.pointerId, { at: at(event), from: at(event) });
        stage.setPointerCapture(event.pointerId);
      });
      stage.addEventListener("pointermove", (event) => {
        const finger = fingers.get(event.pointerId);
        if (!finger) return;
        const places = () => [...fingers.values()].map((f) => f.at);
        const before = places();
        finger.at = at(event);
        if (still && Math.hypot(finger.at[0] - finger.from[0], finger.at[1] - finger.from[1]) < 5) return;
        if (still) { still = false; before[0] = finger.from; }
        const after = places();
        move(units(mean(before)), units(mean(after)));
        if (fingers.size === 2) {
          const [far, now] = [before, after].map(([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]));
          nearer(now / Math.max(far, 1), units(mean(after)));
        }
      });
      const lifted = (event) => {
        if (!fingers.delete(event.pointerId)) return;
        if (still && event.type === "pointerup") tap(...units(at(event)));
      };
      stage.addEventListener("pointerup", lifted);
      stage.addEventListener("pointercancel", lifted);
      stage.addEventListener("wheel", (event) => {
        const closer = event.deltaY < 0;
        if (!event.ctrlKey && document.activeElement !== stage) return;
        if (!event.ctrlKey && (closer ? share <= 1 / most : share === 1)) return;  // no way on: the page scrolls
        event.preventDefault();
        nearer(2 ** (-event.deltaY * (event.deltaMode ? 16 : 1) / 200), units(at(event)));
      }, { passive: false });
      stage.addEventListener("keydown", (event) => {
        const way = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[event.key];
        const times = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 1 / most }[event.key];
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (way && share < 1) step(...way);
        else if (times) nearer(times);
        else return;
        event.preventDefault();
      });
      const named = (text, words, click) => { const b = button(text, click); b.setAttribute("aria-label", words); return b; };
      look(middle(), 1);
      return {
        elements: [named("+", "Zoom in", () => nearer(1.5)), named("\u2212", "Zoom out", () => nearer(1 / 1.5)), button("Show all", () => look(middle(), 1))],
        home(x, y, part = 1, centre = [x, y].map(([low, high]) => (low + high) / 2)) { whole = [x, y]; first = part; look(centre, part); },
        reach(x, y) { if ([x, y].some((v, d) => v !== clamp(v, [on.x, on.y][d]))) look([x, y], share); },
        times: () => 1 / share,
      };
    }

    // A field for one of many words, with those that begin as it does, in their order, as buttons below. Enter takes the
    // first, Arrow Down goes to the buttons.
    function search({ label, words, most = 6, choose }) {
      const field = make("input", { type: "search", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
      const offers = make("div", { class: "play-offers", role: "group", "aria-label": "Words that begin like this" });
      const lower = words.map((word) => word.toLowerCase());
      const take = (i) => { field.value = ""; suggest(); choose(i); field.focus({ preventScroll: true }); };
      function fitting() {
        const start = field.value.trim().toLowerCase(), found = [];
        if (!start) return found;
        const exact = lower.indexOf(start);
        if (exact >= 0) found.push(exact);
        for (let i = 0; i < words.length && found.length < most; i++) if (i !== exact && lower[i].startsWith(start)) found.push(i);
        return found;
      }
      function suggest() {
        const found = fitting();
        offers.replaceChildren(...found.map((i) => button(words[i], () => take(i))));
        if (field.value.trim() && !found.length) offers.append(make("span", {}, "No word begins like this."));
      }
      field.addEventListener("input", suggest);
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && fitting().length) take(fitting()[0]);
        else if (event.key === "ArrowDown" && offers.querySelector("button")) offers.querySelector("button").focus();
        else return;
        event.preventDefault();
      });
      offers.addEventListener("keydown", (event) => {
        const list = [...offers.querySelectorAll("button")], i = list.indexOf(document.activeElement);
        const next = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1 }[event.key];
        if (next === undefined) return;
        (list[next] || (next < 0 ? field : list[list.length - 1])).focus();
        event.preventDefault();
      });
      return { element: make("div", { class: "play-search" }, make("label", {}, make("span", {}, label), field), offers) };
    }

    // A mark as it stands on plots, for a legend: colour and shape are numbers from 0.
    function mark(colour, shape = 0) {
      const found = make("span", { class: "play-mark", "aria-hidden": "true", style: `--play-dot: var(--play-${colour + 1})` });
      found.innerHTML = `<svg viewBox="-6 -6 12 12"><path d="${SHAPES[shape % SHAPES.length]}"/></svg>`;
      return found;
    }

    function slider({ label, min, max, step, value, text = String, input }) {
      const bar = make("input", { type: "range", min, max, step }), shown = make("output");
      const show = () => { shown.textContent = text(+bar.value); bar.setAttribute("aria-valuetext", shown.textContent); };
      bar.addEventListener("input", () => { show(); input(+bar.value); });
      bar.value = value; show();
      const element = make("label", { class: "play-slider" }, make("span", {}, label), bar, shown);
      return { element, value: () => +bar.value, set: (v) => { bar.value = v; show(); } };
    }

    function button(text, click) {
      const element = make("button", { type: "button" }, text);
      element.addEventListener("click", click);
      return element;
    }

    function choice({ label, options, value, change }) {  // options: [[key, words], ...]
      const list = make("select", {}, ...options.map(([key, words]) => make("option", { value: key }, words)));
      list.value = value;
      list.addEventListener("change", () => change(list.value));
      return { element: make("label", {}, make("span", {}, label), list), set: (v) => { list.value = v; } };
    }

    // Buttons "Step" and "Play". `step()` moves on by one and returns whether anything still moves. Nothing plays until
    // it is asked to; where readers want less motion, "Play" shows the end and not the way.
    function player({ step, interval = 40, most = 400 }) {
      let timer = null;
      const start = button("Play", () => {
        if (timer) return stop();
        if (calm.matches) { for (let k = 0; k < most && step(); k++); return; }
        start.textContent = "Pause";
        let left = most;
        timer = setInterval(() => { if (!step() || --left <= 0) stop(); }, interval);
      });
      const once = button("Step", () => { stop(); step(); });
      function stop() { clearInterval(timer); timer = null; start.textContent = "Play"; }
      return { elements: [once, start], stop };
    }

    // Numbers with names, as text and, in full, as data-value. `names` is [[key, label], ...]; returns set({key: value}).
    function readings(names) {
      const cells = names.map(([key, label]) => [key, make("dd", { "data-name": key }), label]);
      const list = make("dl", { class: "play-readings" }, ...cells.map(([, cell, label]) => make("div", {}, make("dt", {}, label), cell)));
      root.append(list);
      return (values) => cells.forEach(([key, cell]) => { cell.dataset.value = values[key]; cell.textContent = number(values[key], Number.isInteger(values[key]) ? 0 : 3); });
    }

    function say(words) {  // below the controls; read aloud once things stand still
      if (!said.isConnected) root.append(said);
      clearTimeout(saying);
      saying = setTimeout(() => { if (said.textContent !== words) said.textContent = words; }, 250);
    }

    function help(words) { root.append(make("p", { class: "play-help" }, words)); }

    new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    new ResizeObserver(redraw).observe(root);
    return { make, number, colours, redraw, row, panels, plot, handles, zoom, search, mark, slider, button, choice, player, readings, say, help, calm: () => calm.matches };
  }

  return {
    // Register what builds a playground: build(root, data, tools). What it returns is kept as `figure.play`.
    add(name, build) { makers[name] = build; },

    // Bring all playgrounds of the page to life that are registered and not yet alive.
    start() {
      document.querySelectorAll("figure.play:not([data-started])").forEach(async (figure) => {
        const build = makers[figure.dataset.play], root = figure.querySelector(".play-live");
        if (!build) return;
        figure.dataset.started = "";
        try {
          const data = await unpacked(JSON.parse(figure.querySelector("script[type='application/json']").textContent));
          figure.classList.add("play-on");  // first, for what is not shown has no width
          const tools = toolbox(root);
          figure.play = build(root, data, tools) || {};
          tools.redraw();
        } catch (error) {  // the still picture stays
          figure.classList.remove("play-on");
          console.error(error);
        }
      });
    },
  };
})();
