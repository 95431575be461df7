// Enlarges a chapter's figure on a tap, a click or by its button; Esc or a tap puts it back. Without scripts it is a plain picture.
document.addEventListener("DOMContentLoaded", () => {
  const figures = [...document.querySelectorAll(".cell_output figure")].filter((f) => !f.querySelector(".film, .play-live"));
  if (!figures.length || !window.HTMLDialogElement) return;
  const make = (tag, text, act) => {
    const element = document.createElement(tag);
    if (text) element.append(text);
    if (act) element.addEventListener("click", (event) => { event.stopPropagation(); act(); });
    return element;
  };
  const view = make("dialog"), bar = make("div"), ground = make("div"), picture = make("img");
  view.className = "enlarged"; ground.className = "enlarged-ground"; bar.className = "enlarged-bar";
  ground.tabIndex = 0;  // arrows scroll it
  let width = 0, from = null;
  const natural = () => +picture.dataset.width;
  const put = (wanted) => {
    width = Math.max(160, Math.min(6 * natural(), wanted));
    picture.style.width = width + "px";
  };
  const zoom = (factor) => {  // about the middle of what is seen
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = ground, before = width;
    put(width * factor);
    const grown = width / before;
    ground.scrollTo((scrollLeft + clientWidth / 2) * grown - clientWidth / 2, (scrollTop + clientHeight / 2) * grown - clientHeight / 2);
  };
  const named = (text, name, act) => { const b = make("button", text, act); b.type = "button"; b.setAttribute("aria-label", name); return b; };
  bar.append(named("\u2212", "Smaller", () => zoom(1 / 1.4)), named("+", "Larger", () => zoom(1.4)), named("Close", "Close", () => view.close()));
  ground.append(picture); view.append(bar, ground); document.body.append(view);
  view.addEventListener("click", () => view.close());
  view.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(1.4);
    if (event.key === "-") zoom(1 / 1.4);
  });
  view.addEventListener("close", () => { picture.removeAttribute("src"); if (from) from.focus({ preventScroll: true }); });

  for (const figure of figures) {
    const shown = figure.querySelector("img");
    if (!shown) continue;
    const open = (button) => {
      from = button;
      picture.src = shown.src; picture.alt = shown.alt;  // as drawn, also where the page shows its panels stacked
      picture.dataset.width = shown.getAttribute("width") || shown.naturalWidth;
      view.setAttribute("aria-label", shown.alt);
      view.showModal();
      const ratio = shown.hasAttribute("height") ? shown.getAttribute("height") / natural() : shown.naturalHeight / natural();
      const fit = Math.min(ground.clientWidth, ground.clientHeight / ratio);
      put(Math.max(natural(), Math.min(fit, 2 * natural())));  // as large as fits, and never smaller than drawn: it scrolls
      ground.scrollTo(0, 0);
      bar.lastChild.focus();
    };
    const button = named("\u2922", "Enlarge the figure", () => open(button));
    button.className = "enlarge";
    (shown.closest("picture") || shown).after(button);
    shown.addEventListener("click", () => open(button));
  }
});
