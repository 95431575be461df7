// Filters and sorts the scoreboard, and keeps what was chosen in the address. Without scripts the tables stand whole.
(() => {
  const form = document.querySelector(".scoreboard-filter");
  if (!form) return;
  const status = form.querySelector("[role=status]"), folded = document.querySelector(".scoreboard-checks");
  const bodies = [...document.querySelectorAll("table.judged tbody, table.checks tbody")];
  const inOrder = new Map(bodies.map((body) => [body, [...body.rows]]));
  const fields = [...form.elements].filter((field) => field.name);
  const kinds = ["statement", "finding", "check"];
  const says = (row) => row.querySelector(".scoreboard-says").textContent.trim();
  const compare = {
    verdict: (a, b) => a.dataset.rank - b.dataset.rank,
    kind: (a, b) => kinds.indexOf(a.dataset.kind) - kinds.indexOf(b.dataset.kind),
    claim: (a, b) => says(a).localeCompare(says(b), "en"),
  };

  function show() {
    const chosen = Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
    const words = chosen.text.toLowerCase().split(/\s+/);
    const shown = {}, all = {};
    for (const body of bodies) {
      const rows = inOrder.get(body), claims = rows.filter((row) => row.id && row.dataset.kind);
      for (const row of claims) {
        const text = (row.id + " " + row.textContent).toLowerCase();
        row.hidden = !["verdict", "kind", "chapter"].every((key) => !chosen[key] || row.dataset[key] === chosen[key])
          || !words.every((word) => text.includes(word));
        const kind = row.dataset.kind === "check" ? "checks" : "statements and findings";
        all[kind] = (all[kind] || 0) + 1;
        shown[kind] = (shown[kind] || 0) + !row.hidden;
      }
      for (const row of rows.filter((row) => row.dataset.of))  // a chapter's heading
        row.hidden = !!chosen.sort || !claims.some((claim) => !claim.hidden && claim.dataset.chapter === row.dataset.of);
      body.append(...(compare[chosen.sort] ? [...claims].sort(compare[chosen.sort]) : rows));
    }
    status.textContent = Object.keys(all).map((kind) => `${shown[kind]} of ${all[kind]} ${kind}`).join(", ") + " shown";
    if (folded && shown.checks && !shown["statements and findings"]) folded.open = true;
  }

  function restore() {
    const hash = decodeURIComponent(location.hash.slice(1)), given = new URLSearchParams(location.hash.slice(1));
    const row = hash.startsWith("row-") && document.getElementById(hash);
    if (hash && !row && !hash.includes("=")) return;  // a heading of the page
    for (const field of fields) {
      field.value = given.get(field.name) || "";  // of a row's address: all are shown
      if (field.selectedIndex < 0) field.value = "";  // no such choice
    }
    show();
    if (row) {
      if (folded && folded.contains(row)) folded.open = true;  // older browsers do not by themselves
      row.scrollIntoView({ block: "center" });
    }
  }

  function keep() {
    const chosen = new URLSearchParams(fields.filter((field) => field.value.trim()).map((field) => [field.name, field.value.trim()]));
    history.replaceState(null, "", "#" + chosen);
    show();
  }

  form.addEventListener("input", keep);
  form.addEventListener("reset", () => setTimeout(keep));  // once the fields are empty
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", restore);
  form.hidden = false;
  show();
  restore();
})();
