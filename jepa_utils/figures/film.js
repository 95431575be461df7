const root = document.getElementById(ID), film = root.querySelector(".film"), still = root.querySelector(".film-still");
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const shade = bytes(DATA.shade), views = DATA.views.map((v) => ({ ...v, bytes: bytes(v.points) }));
const canvases = [...film.querySelectorAll(".film-views canvas")], texts = [...film.querySelectorAll(".film-reading")];
const chart = film.querySelector(".film-chart"), slider = film.querySelector("input");
const button = film.querySelector("button"), count = film.querySelector(".film-count");
let timer = null;

function sharp(canvas, ratio) {  // as many pixels as the screen has; sizes in CSS pixels come back
  const width = canvas.clientWidth || 300, height = Math.round(width * ratio), dense = window.devicePixelRatio || 1;
  canvas.style.height = height + "px";
  canvas.width = width * dense; canvas.height = height * dense;
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  return [pen, width, height];
}

function drawCloud(canvas, view, frame) {
  const [pen, width, height] = sharp(canvas, 1), n = shade.length, start = frame * 2 * n;
  pen.strokeStyle = "#999"; pen.strokeRect(0.5, 0.5, width - 1, height - 1);
  pen.font = "11px sans-serif";
  for (let i = 0; i < n; i++) {
    pen.fillStyle = DATA.palette[shade[i]];
    pen.beginPath();
    pen.arc(view.bytes[start + 2 * i] / 255 * width, (1 - view.bytes[start + 2 * i + 1] / 255) * height, 2, 0, 7);
    pen.fill();
  }
  const axes = "axes \u00b1" + view.limit[frame];  // of this run in this frame, over the points
  pen.fillStyle = "#ffffffd0"; pen.fillRect(1, height - 17, pen.measureText(axes).width + 6, 16);
  pen.fillStyle = "#1a1a1a"; pen.fillText(axes, 4, height - 5);
}

function drawChart(frame) {
  const [pen, width, height] = sharp(chart, Math.max(0.18, Math.min(0.45, 110 / (chart.clientWidth || 300))));
  const last = DATA.frames - 1, left = 34, right = 8, top = 8, bottom = 18;
  const x = (f) => left + f / last * (width - left - right);
  const y = (v) => top + (1 - Math.max(0, Math.min(1, v))) * (height - top - bottom);
  pen.font = "11px sans-serif"; pen.fillStyle = "#555"; pen.strokeStyle = "#ccc"; pen.lineWidth = 1;
  for (const v of [0, 0.5, 1]) {
    pen.beginPath(); pen.moveTo(left, y(v)); pen.lineTo(width - right, y(v)); pen.stroke();
    pen.fillText(v.toFixed(1), 10, y(v) + 4);
  }
  pen.fillText(DATA.track + " over " + DATA.unit + "s", left + 4, height - 4);
  views.forEach((view) => {
    pen.strokeStyle = pen.fillStyle = view.colour; pen.lineWidth = 2; pen.setLineDash(view.dash);
    pen.beginPath(); view.track.forEach((v, f) => f ? pen.lineTo(x(f), y(v)) : pen.moveTo(x(f), y(v))); pen.stroke();
    pen.setLineDash([]);
    pen.beginPath(); pen.arc(x(frame), y(view.track[frame]), 4, 0, 7); pen.fill();
  });
}

function show(frame) {
  slider.value = frame;
  count.textContent = DATA.unit + " " + frame + " of " + (DATA.frames - 1);
  slider.setAttribute("aria-valuetext", count.textContent);
  views.forEach((view, i) => { drawCloud(canvases[i], view, frame); texts[i].textContent = view.readings[frame]; });
  drawChart(frame);
}

function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }

button.addEventListener("click", () => {
  if (timer) return stop();
  if (+slider.value === DATA.frames - 1) show(0);
  button.textContent = "Pause";
  timer = setInterval(() => { +slider.value < DATA.frames - 1 ? show(+slider.value + 1) : stop(); }, 180);
});
slider.addEventListener("input", () => { stop(); show(+slider.value); });
window.addEventListener("resize", () => show(+slider.value));
still.hidden = true; film.hidden = false;
show(DATA.frames - 1);
