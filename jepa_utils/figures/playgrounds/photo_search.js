// A search box: the photographs nearest to a typed sentence, embedded in the page by the chapter's encoder of sentences.
// data: see `photo_search_data` in figures/photo_search.py, which searches as this does.
// figure.play, for tests: set({words}) or set({photo}), cut(text), embed(text), and state().
play.add("photo_search", function (root, data, tools) {
  const FIRST = 12, { side, across, longest, examples } = data, { values: pictures, shape: [count, size] } = data.pictures;
  const utf8 = (array) => new TextDecoder().decode(Uint8Array.from(array.values));
  const captions = utf8(data.captions).split("\n").map((line) => line.split("\t"));
  const words = utf8(data.words).split("\n"), numbers = new Map(words.map((word, n) => [word, n]));
  const now = { words: null, photo: null, tokens: [], missing: [], order: [], near: [], meant: [], place: NaN, open: null, said: "", ms: 0 };
  const many = (n) => n.toLocaleString("en"), quoted = (photo) => `\u201c${captions[photo][0].replace(/[\s.]+$/, "")}\u201d`;

  root.append(tools.make("style", {}, `
    .play-photo-search { container-type: inline-size; }
    .play-live ol.play-photos { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); grid-auto-flow: row dense; gap: 0.4rem; margin: 0.5rem 0 0; padding: 0; list-style: none; }
    @container (min-width: 26rem) { .play-live ol.play-photos { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
    @container (min-width: 38rem) { .play-live ol.play-photos { grid-template-columns: repeat(6, minmax(0, 1fr)); } }
    .play-live .play-photos > li { min-width: 0; margin: 0; color: inherit; }
    .play-photo-search canvas { display: block; width: 100%; aspect-ratio: 1; border-radius: 0.15rem; }
    .play-live button.play-photo { display: block; width: 100%; padding: 0.2rem; font-size: 0.8rem; line-height: 1.5; color: var(--play-ink); background: none; border: 2px solid transparent; cursor: pointer; font-variant-numeric: tabular-nums; }
    .play-live button.play-photo[aria-pressed="true"] { border: 2px solid var(--play-ink); background: var(--play-key); }
    .play-live button.play-photo.play-true { border: 4px solid var(--play-2); padding: 0.1rem; background: var(--play-key); font-weight: 600; }
    .play-live button.play-photo.play-true[aria-pressed="true"] { outline: 2px solid var(--play-ink); }
    .play-live .play-photos > :is(.play-apart, .play-chosen) { grid-column: 1 / -1; display: grid; gap: 0.3rem 0.7rem; align-items: center; font-size: 0.9em; }
    .play-live .play-photos > .play-apart { grid-template-columns: minmax(0, 7rem) minmax(0, 1fr); }
    .play-live .play-photos > .play-chosen { justify-items: start; padding: 0.5rem; background: var(--play-key); border-radius: 0.25rem; }
    .play-live .play-chosen button { text-align: left; overflow-wrap: anywhere; background: var(--play-back); }
    .play-photo-search .play-try { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 0.3rem 0.5rem; }
    .play-live .play-try button { overflow: hidden; text-align: left; text-overflow: ellipsis; white-space: nowrap; font-size: 0.9em; }
    .play-photo-search .play-asked:not([hidden]) { display: grid; grid-template-columns: 4rem minmax(0, 1fr); gap: 0.7rem; align-items: center; }
    .play-photo-search p { overflow-wrap: anywhere; }
  `));
  root.classList.add("play-photo-search");

  // ---- the encoder of sentences: vectors of words and places, each sum normalised, their mean

  // As Python cuts it: words, and signs one by one.
  const cut = (text) => text.toLowerCase().match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/gu) || [];

  function embed(tokens) {
    const out = new Float64Array(size), x = new Float64Array(size);
    let shares = 0;
    tokens.forEach((token, place) => {
      const id = numbers.get(token) ?? 0, unit = data.tokenUnit.values[id], share = data.weights ? data.weights.values[id] : 1;
      let mean = 0, spread = 0;
      for (let d = 0; d < size; d++) {
        x[d] = data.tokens.values[id * size + d] * unit;
        if (data.positions) x[d] += data.positions.values[place * size + d] * data.positionUnit.values[place];
        mean += x[d] / size;
      }
      for (let d = 0; d < size; d++) spread += (x[d] - mean) ** 2 / size;
      const scale = 1 / Math.sqrt(spread + data.eps);
      for (let d = 0; d < size; d++) out[d] += share * ((x[d] - mean) * scale * data.gain.values[d] + data.bias.values[d]);
      shares += share;
    });
    return out.map((v) => v / shares);
  }

  const lengths = Array.from({ length: count }, (_, i) => Math.hypot(...data.pictures.row(i)));
  function rank(asked) {
    const length = Math.hypot(...asked) || 1;
    now.near = lengths.map((own, i) => {
      let both = 0;
      for (let d = 0, at = i * size; d < size; d++) both += asked[d] * pictures[at + d];
      return both / (own * length);
    });
    now.order = [...now.near.keys()].sort((i, j) => now.near[j] - now.near[i] || i - j);
  }

  const key = (tokens) => tokens.join(" "), photosOf = new Map();  // the photographs that a caption belongs to
  captions.forEach((row, photo) => row.forEach((caption) => {
    const name = key(cut(caption));
    if (!photosOf.has(name)) photosOf.set(name, new Set());
    photosOf.get(name).add(photo);
  }));

  // ---- controls

  const field = tools.make("input", { type: "search", autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "search" });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); choose({ words: field.value }); } });
  field.addEventListener("input", () => {  // searched while it is typed, but no word that is still on its way
    const last = cut(field.value).pop() ?? "", whole = /\s$/.test(field.value) || numbers.has(last);
    if (!field.value.trim() || whole || !words.some((word) => word.startsWith(last))) choose({ words: field.value, typing: true });
  });
  tools.row(tools.make("label", { class: "play-words" }, tools.make("span", {}, "Look for"), field), tools.button("Search", () => choose({ words: field.value })));
  const offers = examples.map((query) => tools.button(query, () => choose({ words: query })));
  const any = (list) => list[Math.floor(Math.random() * list.length)];
  tools.row(...offers, tools.button("Any caption", () => choose({ words: any(any(captions)) }))).classList.add("play-try");

  // ---- what was found

  const asked = tools.make("div", { class: "play-query play-asked" });
  root.append(asked);
  tools.say("");  // stands here, above what it sums up
  const list = tools.make("ol", { class: "play-photos", "aria-label": "Photographs found" });
  root.append(list);

  const sheet = new Image(), waiting = new Set();
  function thumbnail(photo) {
    const canvas = tools.make("canvas", { width: 2 * side, height: 2 * side, "aria-hidden": "true" });
    const draw = () => {
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.drawImage(sheet, (photo % across) * side, Math.floor(photo / across) * side, side, side, 0, 0, 2 * side, 2 * side);
    };
    if (sheet.naturalWidth) draw();
    else waiting.add(draw);
    return canvas;
  }
  sheet.addEventListener("load", () => { waiting.forEach((draw) => draw()); waiting.clear(); });
  sheet.src = data.sheet;

  // The photographs are one stop of the tab key; arrows, Home and End go from one to the next.
  const buttons = () => [...list.querySelectorAll("button.play-photo")];
  function stop(button, focus = false) {
    buttons().forEach((b) => { b.tabIndex = b === button ? 0 : -1; });
    if (focus) button.focus();
  }
  list.addEventListener("keydown", (event) => {
    const all = buttons(), at = all.indexOf(event.target), columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (next >= 0) stop(all[Math.min(next, all.length - 1)], true);
  });

  function shown(photo, place) {
    const near = tools.number(now.near[photo], 2), right = now.meant.includes(photo);
    const button = tools.make(
      "button",
      { type: "button", class: right ? "play-photo play-true" : "play-photo", "aria-pressed": "false", "aria-label": `Place ${place}, similarity ${near}${right ? ", the one that was meant" : ""}: ${quoted(photo)}` },
      thumbnail(photo), tools.make("span", {}, right ? `${near} meant` : near),
    );
    const item = tools.make("li", { "data-photo": photo, "data-value": now.near[photo] }, button);
    button.addEventListener("click", () => { stop(button); open(photo, item); });
    return item;
  }

  const chosen = tools.make("li", { class: "play-chosen" });
  function open(photo, item) {  // what was written of a photograph; a second time, no longer
    chosen.remove();
    now.open = now.open === photo ? null : photo;
    for (const one of list.children) one.querySelector("button").setAttribute("aria-pressed", String(+one.dataset.photo === now.open));
    if (now.open === null) return tools.say(now.said);
    const sentences = captions[photo].map((caption) => tools.button(caption, () => { choose({ words: caption }); stop(buttons()[0], true); }));
    const like = tools.button("More like this", () => { choose({ photo }); stop(buttons()[0], true); });
    chosen.replaceChildren(
      tools.make("p", { class: "play-title" }, "Written of it. Press a sentence to search by it."), ...sentences, like,
    );
    item.after(chosen);
    tools.say(`Written of this one: ${quoted(photo)}.`);
  }

  function choose({ words: typed = null, photo = null, typing = false }) {
    const began = performance.now(), all = typed === null ? [] : cut(typed), tokens = all.slice(0, longest);
    const missing = [...new Set(tokens.filter((token) => !numbers.has(token)))], nothing = photo === null && tokens.every((token) => !numbers.has(token));
    Object.assign(now, { words: typed, photo, tokens, missing, order: [], near: [], meant: [], place: NaN, open: null });
    if (!nothing) {
      rank(photo === null ? embed(tokens) : data.pictures.row(photo));
      now.meant = [...(photo === null && photosOf.get(key(all)) || [])];
      if (photo !== null) now.order = now.order.filter((i) => i !== photo);
      if (now.meant.length) now.place = 1 + now.order.findIndex((i) => now.meant.includes(i));
    }
    now.ms = performance.now() - began;

    if (!typing) field.value = typed ?? "";
    offers.forEach((button, n) => button.setAttribute("aria-pressed", String(examples[n] === typed)));
    asked.hidden = photo === null;
    if (photo !== null) asked.replaceChildren(thumbnail(photo), tools.make("p", {}, `Photographs near this one: ${quoted(photo)}`));
    const items = now.order.slice(0, FIRST).map((i, n) => shown(i, n + 1));
    if (now.place > FIRST) {
      const item = shown(now.order[now.place - 1], now.place);
      item.className = "play-apart";
      item.append(tools.make("p", {}, `The one that was meant: place ${many(now.place)} of ${many(count)}`));
      items.push(item);
    }
    list.replaceChildren(...items);
    if (items.length) stop(buttons()[0]);
    now.said = summary(all, nothing);
    tools.say(now.said);
  }

  function summary(all, nothing) {
    const { missing } = now, first = now.order[0], parts = [];
    if (now.photo === null && !all.length) return `Type what you look for, such as \u201c${examples[0]}\u201d, or press an example.`;
    if (missing.length) parts.push(`I do not know: ${missing.join(", ")}.`);
    if (nothing) return `${parts.join(" ")} No caption has any of these words.`;
    if (missing.length) parts.push(`The encoder reads ${missing.length > 1 ? "them" : "it"} as any rare word.`);
    if (all.length > longest) parts.push(`Read are the first ${longest} words and signs.`);
    parts.push(`Found first, with a similarity of ${tools.number(now.near[first], 2)}: ${quoted(first)}.`);
    if (now.meant.length) parts.push(`${now.meant.length > 1 ? `${now.meant.length} photographs have this caption; the best of them is` : "The one that was meant is"} at place ${many(now.place)} of ${many(count)}.`);
    return parts.join(" ");
  }

  choose({ words: examples[0] });
  tools.help(
    `The numbers are cosines of the sentence and each of ${many(count)} photographs. Nothing is sent: the encoder is in this page, ${many(words.length - 1)} words with ${size} numbers each.` +
    " Press a photograph for what was written of it and for others like it.",
  );

  return {
    set: choose, cut,
    state: () => ({
      words: now.words, photo: now.photo, tokens: now.tokens, missing: now.missing, near: now.near, found: now.order.slice(0, FIRST),
      meant: now.meant, place: now.place, open: now.open, ms: now.ms, drawn: sheet.naturalWidth > 0 && !waiting.size,
    }),
  };
});
