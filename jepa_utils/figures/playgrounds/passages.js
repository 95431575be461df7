// A search of passages: the second halves nearest to typed words, or to a passage's first half, by three encoders side by side.
// data: see `passage_data` in figures/passages.py, which searches as this does.
// figure.play, for tests: set({words}) or set({passage}), and state().
play.add("passages", function (root, data, tools) {
  const { strings, titles, examples } = data, BEST = 5, SNIPPET = 160, RARE = 1 + Math.log(30);
  const ids = data.ids.lists(), article = data.articles.values, idf = data.idf.values, count = ids.length, half = ids[0].length / 2;
  const encoders = [
    ["lejepa", "LeJEPA", `${data.lejepa.shape[1]} numbers a text`],
    ["lsa", "LSA", `${data.lsa.shape[1]} numbers a text`],
    ["tfidf", "TF-IDF", `${idf.filter((v) => v > 0).length.toLocaleString("en")} numbers a text`],
  ];
  const now = { words: null, passage: null, text: [], missing: [], found: {}, place: {} };

  // ---- encoders: each makes a vector of a text, a list of numbers of tokens

  function counted(text) {
    const times = new Map();
    for (const token of text) times.set(token, (times.get(token) || 0) + 1);
    return [...times];
  }

  function sum(table, terms) {
    const out = new Float64Array(table.shape[1]), { values } = table;
    for (const [token, factor] of terms) for (let d = 0, at = token * out.length; d < out.length; d++) out[d] += factor * values[at + d];
    return out;
  }

  function vectors(text) {
    const bag = counted(text), row = bag.map(([token, c]) => [token, idf[token] * (1 + Math.log(c))]).filter(([, v]) => v > 0);
    const length = Math.hypot(...row.map(([, v]) => v)), sparse = row.map(([token, v]) => [token, v / length]);
    const lsa = sum(data.lsa, sparse.map(([token, v]) => [token, v * data.lsaWeight.values[token]]));
    return {
      lejepa: sum(data.lejepa, bag.map(([token, c]) => [token, c * data.lejepaWeight.values[token]])),
      lsa: sparse.length ? lsa.map((v, d) => v - data.lsaMean.values[d]) : lsa,  // of words never seen nothing is known
      tfidf: new Map(sparse),
    };
  }

  function cosine(a, b) {
    let both = 0, ones = 0, others = 0;
    a.forEach((v, d) => { both += v * b[d]; ones += v * v; others += b[d] * b[d]; });
    return ones && others ? both / Math.sqrt(ones * others) : 0;
  }

  function overlap(a, b) {  // the same for sparse rows of length 1
    let both = 0;
    a.forEach((v, token) => { both += v * (b.get(token) || 0); });
    return both;
  }

  const seconds = ids.map((row) => vectors(row.slice(half)));

  function search(text) {
    const query = vectors(text);
    for (const [key] of encoders) {
      const like = key === "tfidf" ? overlap : cosine, near = seconds.map((second) => like(query[key], second[key]));
      const order = near.some((v) => v) ? [...near.keys()].sort((i, j) => near[j] - near[i] || i - j) : [];
      now.found[key] = order.slice(0, BEST).filter((i) => near[i] > 0).map((i) => [i, near[i]]);
      now.place[key] = now.passage === null || !order.length ? NaN : order.indexOf(now.passage) + 1;
    }
  }

  // ---- words: a word begins at a token with a blank before it

  const bare = (word) => word.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");

  function split(row) {  // a row of tokens into lists of tokens
    const found = [];
    for (const token of row) {
      if (!found.length || /^\s/.test(strings[token])) found.push([]);
      found[found.length - 1].push(token);
    }
    return found;
  }

  const known = new Map(), rarity = new Map(), spaced = (word) => strings[word[0]][0] === " ";
  for (const row of ids) {
    const starts = split(row);
    for (const whole of starts.slice(/^\s/.test(strings[row[0]]) ? 0 : 1, -1)) {  // what a passage ends with may be cut
      let word = whole;
      while (word.length && !bare(strings[word[0]])) word = word.slice(1);
      while (word.length && !bare(strings[word[word.length - 1]])) word = word.slice(0, -1);
      const text = bare(word.map((token) => strings[token]).join("")), key = text.toLowerCase();
      if (text) rarity.set(key, Math.min(rarity.get(key) ?? Infinity, Math.max(...word.map((token) => idf[token] || Infinity))));
      if (text && (!known.has(text) || (spaced(word) && !spaced(known.get(text))))) known.set(text, word);
    }
  }

  function typed(words) {
    const text = [], missing = [];
    for (const word of words.split(/[\s-]+/).map(bare).filter(Boolean)) {  // in WikiText hyphens stand alone
      const capital = word[0].toUpperCase() + word.slice(1).toLowerCase();
      const way = [word, capital, word.toLowerCase(), word.toUpperCase()].find((form) => known.has(form));
      if (way) text.push(...known.get(way));
      else missing.push(word);
    }
    return [text, missing];
  }

  // ---- text as it is read

  // Words of a text as [what stands before, the word, its bare form in small letters]; WikiText's marks of hyphens and
  // headings are left out, and a box stands for a word that it does not tell.
  const UNTOLD = "\u25a1";
  function legible(row) {
    const found = [];
    let glue = "";
    const words = split(row);
    words.forEach((word, n) => {
      const text = word.map((token) => strings[token]).join("");
      let plain = text.trim().replace(/\uFFFD+/g, "\uFFFD").replaceAll("<unk>", UNTOLD);
      if (n === 0) plain = plain.replace(/^(unk)?>/, UNTOLD);  // the cut may go through it
      if (n === words.length - 1) plain = plain.replace(/<(unk)?$/, UNTOLD);
      const between = /^@(.)@$/.exec(plain);
      if (text.includes("\n")) glue = "\n";
      if (between) { if (found.length) found[found.length - 1][1] += between[1]; glue = ""; return; }
      if (!plain || /^=+$/.test(plain)) return;
      if (glue === " " && /^([,.;:!?)\]%]|['\u2019]\p{L})/u.test(plain)) glue = "";
      found.push([found.length ? glue : "", plain, bare(plain).toLowerCase()]);
      glue = text.includes("\n") ? "\n" : /^[([]$/.test(plain) ? "" : " ";
    });
    return found;
  }

  // The words of the query that stand out where they occur again: of a passage only the rarer ones, for any two texts
  // share "the" and "of".
  function marked() {
    const rare = (key) => (rarity.get(key) ?? 0) >= RARE, keys = now.words === null ? legible(now.text).map(([, , key]) => key) : [];
    return new Set(now.words === null ? keys.filter(rare) : now.words.toLowerCase().split(/[\s-]+/).map(bare).filter(Boolean));
  }

  function written(row, stand, most = Infinity) {  // as elements; broken off after a word
    const out = [], add = (text) => { if (typeof out[out.length - 1] === "string") out[out.length - 1] += text; else out.push(text); };
    let length = 0;
    for (const [before, word, key] of legible(row)) {
      if (length > 0 && length + word.length > most) { add("\u00a0\u2026"); break; }
      add(most < Infinity && before === "\n" ? " \u00b7 " : before);
      if (key && stand.has(key)) out.push(tools.make("b", {}, word));
      else add(word);
      length += before.length + word.length;
    }
    return out;
  }

  // ---- controls

  const field = tools.make("input", { type: "search", autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "search" });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); ask(); } });
  function ask() { if (field.value.trim()) choose({ words: field.value.trim() }); }
  tools.row(tools.make("label", { class: "play-words" }, tools.make("span", {}, "Words"), field), tools.button("Search", ask));
  const offers = examples.map((query) => tools.button(
    typeof query === "string" ? query : `passage of \u201c${titles[article[query]]}\u201d`,
    () => choose(typeof query === "string" ? { words: query } : { passage: query }),
  ));
  tools.row(tools.make("span", {}, "Or try"), ...offers);
  const firsts = titles.map((_, a) => article.indexOf(a)), last = () => now.passage ?? -1;
  const articles = tools.choice({
    label: "Or a passage of", options: [["", "\u2026"], ...titles.map((title, a) => [String(a), title])], value: "",
    change(a) { if (a !== "") choose({ passage: firsts[+a] }); },
  });
  tools.row(
    articles.element,
    tools.button("Next passage", () => choose({ passage: (last() + 1) % count })),
    tools.button("Any passage", () => choose({ passage: Math.floor(Math.random() * count) })),
  );

  // ---- what was found

  const asked = tools.make("p", { class: "play-title" }), text = tools.make("p", { class: "play-text" }), lacking = tools.make("p", { class: "play-lacking" });
  const own = tools.button("Show its own second half", () => unfold(own.getAttribute("aria-expanded") !== "true"));
  const rest = tools.make("p", { class: "play-text" });
  const query = tools.make("div", { class: "play-query" }, asked, text, own, rest, lacking);
  root.append(query);
  tools.say("");  // stands here, above what it sums up
  const columns = tools.make("div", { class: "play-passages" });
  root.append(columns);
  const parts = encoders.map(([key, name, size], e) => {
    const place = tools.make("p", { class: "play-place", "data-name": key }), list = tools.make("ol", {});
    const title = tools.make("p", { class: "play-title" }, tools.mark(e, e), name, tools.make("span", {}, size));
    columns.append(tools.make("div", { role: "group", "aria-label": name }, title, place, list));
    return { place, list };
  });

  function unfold(open) {
    own.setAttribute("aria-expanded", String(open));
    own.textContent = open ? "Hide its own second half" : "Show its own second half";
    rest.hidden = !open;
  }

  function shown([i, near], stand) {
    const row = ids[i].slice(half), same = now.passage !== null && article[i] === article[now.passage], self = i === now.passage;
    const button = tools.button(titles[article[i]], () => turn(button.getAttribute("aria-expanded") !== "true"));
    const words = tools.make("p", { class: "play-text" });
    const badge = self ? [tools.make("strong", {}, "own half")] : same ? [tools.make("em", {}, "same article")] : [];
    const shared = new Map(legible(row).filter(([, , key]) => stand.has(key)).map(([, word, key]) => [key, bare(word)]));
    const common = [...shared].sort(([a], [b]) => (rarity.get(b) ?? 0) - (rarity.get(a) ?? 0)).map(([, word]) => word), more = common.length - 6;
    const has = common.length ? `shares ${common.slice(0, 6).join(", ")}${more > 0 ? ` and ${more} more` : ""}` : now.words === null ? "shares no rare word" : "shares none of the words";
    const item = tools.make(
      "li", { class: self ? "play-own" : same ? "play-same" : "", "data-passage": i, "data-value": near },
      tools.make("div", {}, button, ...badge), words, tools.make("p", { class: "play-has" }, `cosine ${tools.number(near, 2)}, ${has}`),
    );
    function turn(open) {
      button.setAttribute("aria-expanded", String(open));
      words.replaceChildren("\u2026 ", ...written(row, stand, open ? Infinity : SNIPPET));
    }
    words.addEventListener("click", () => { if (!String(window.getSelection())) button.click(); });  // text may be selected
    turn(false);
    return item;
  }

  function choose({ words = null, passage = null }) {
    now.words = words; now.passage = passage;
    [now.text, now.missing] = words === null ? [ids[passage].slice(0, half), []] : typed(words);
    search(now.text);
    const stand = marked(), names = encoders.map(([, name]) => name), ofTyped = words !== null;
    const same = (key) => now.found[key].filter(([i]) => article[i] === article[passage] && i !== passage).length;

    if (ofTyped) field.value = words;
    else field.value = "";
    articles.set(ofTyped ? "" : String(article[passage]));
    offers.forEach((button, n) => button.setAttribute("aria-pressed", String(examples[n] === (ofTyped ? words : passage))));
    asked.textContent = ofTyped ? `Words: ${words}` : `First half of passage ${passage + 1} of ${count}, from \u201c${titles[article[passage]]}\u201d`;
    text.replaceChildren(...(ofTyped ? [] : [...written(now.text, new Set()), "\u00a0\u2026"]));
    rest.replaceChildren(...(ofTyped ? [] : ["\u2026 ", ...written(ids[passage].slice(half), stand)]));
    text.hidden = own.hidden = ofTyped;
    unfold(false);
    lacking.textContent = now.missing.length ? `Not in these passages: ${now.missing.join(", ")}.` : "";
    parts.forEach(({ place, list }, e) => {
      const key = encoders[e][0], found = now.found[key], at = now.place[key];
      place.dataset.value = at;
      place.textContent = ofTyped ? "" : `Its own second half: place ${at}`;
      if (!found.length) place.textContent = now.text.length ? "Has never seen any of these words." : "";
      list.replaceChildren(...found.map((one) => shown(one, stand)));
    });
    if (!now.text.length) tools.say("None of these words is in the passages.");
    else if (ofTyped) tools.say(`Found first: ${encoders.map(([key, name]) => `by ${name} a passage of ${now.found[key].length ? `\u201c${titles[article[now.found[key][0][0]]]}\u201d` : "nothing"}`).join(", ")}.`);
    else tools.say(`Its own second half is at place ${encoders.map(([key], e) => `${now.place[key]} by ${names[e]}`).join(", ")}. Others of its article among the first ${BEST}: ${encoders.map(([key], e) => `${same(key)} by ${names[e]}`).join(", ")}.`);
  }

  choose(typeof examples[0] === "string" ? { words: examples[0] } : { passage: examples[0] });
  const untold = ids.some((row) => row.map((token) => strings[token]).join("").includes("<unk>"));
  tools.help(
    `Searched are the second halves of ${count} passages of ${half * 2} tokens each. Click a title for the whole text. Bold are words of the query; of a passage,` +
    ` those that fewer than about one text in 30 has.${untold ? ` ${UNTOLD} stands for a word that WikiText leaves out.` : ""}`,
  );

  return {
    set: choose,
    state: () => ({ words: now.words, passage: now.passage, tokens: now.text.map((token) => strings[token]), missing: now.missing, found: now.found, place: now.place }),
  };
});
