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
    // `ratio` is height over width; "equal" makes a unit as long on both axes.
    function plot({ parent = root, title = "", x, y, xlabel = "", ratio = 0.6, tall = false, axes = true, draw }) {
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
          context.fillText(label(v), found.toX(v), bottom + 4);
        }
        if (xlabel) context.fillText(xlabel, (edge.left + right) / 2, bottom + 19);
        context.textAlign = "right"; context.textBaseline = "middle";
        for (const v of ticks(found.y, 5)) {
          context.beginPath(); context.moveTo(edge.left, found.toY(v)); context.lineTo(right, found.toY(v)); context.stroke();
          context.fillText(label(v), edge.left - 4, found.toY(v));
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
          dots(xs, ys, { colour: c, size = 3 }) {  // one colour, or one per dot
            xs.forEach((v, i) => {
              colour(Array.isArray(c) ? c[i] : c);
              context.beginPath(); context.arc(found.toX(v), found.toY(ys[i]), size, 0, 7); context.fill();
            });
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
      const clamp = (v, [low, high]) => Math.max(low, Math.min(high, v));
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
    return { make, number, colours, redraw, row, panels, plot, handles, slider, button, choice, player, readings, say, help, calm: () => calm.matches };
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
