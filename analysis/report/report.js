"use strict";
// Makes the page interactive. Text from records is only ever set as textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const inspector = document.getElementById("inspector");
  const config = { displayModeBar: false, responsive: true };
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function element(name, text, attributes = {}) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  // plotly.js is four fifths of this file: it is run when it is first needed, so that the page opens without it.
  let loaded;
  function library() {
    loaded ??= new Promise(resolve => setTimeout(() => {
      document.head.append(element("script", document.getElementById("library").textContent));
      resolve();
    }));
    return loaded;
  }

  // plotly.js obeys a few tags in labels; names from records must not become links.
  const plain = text => String(text).replaceAll("<", "‹").replaceAll(">", "›");

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const [ink, rule] = ["--ink", "--rule"].map(name => style.getPropertyValue(name).trim());
    const axes = Object.fromEntries(Object.keys({ xaxis: 0, yaxis: 0, ...layout })
      .filter(key => /^[xy]axis\d*$/.test(key))
      .map(key => [key, { gridcolor: rule, zerolinecolor: rule, automargin: true, ...layout[key] }]));
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 }, ...layout, ...axes };
  }

  // Black and dark blue of the paper's palette would vanish on a dark page.
  const lighter = { "#000000": "#ffffff", "#0072B2": "#4aa8e0" };
  function visible(trace) {
    const seen = { ...trace, name: plain(trace.name), text: (trace.text || []).map(plain) };
    for (const part of ["line", "marker"]) {
      const colour = dark.matches && trace[part] && lighter[trace[part].color];
      if (colour) seen[part] = { ...trace[part], color: colour };
    }
    return seen;
  }

  // The inspector: seeds, learning rates and history of the records behind a cell of a table, a row or a point.

  let pinned = false;

  function inspect(ids, pin = false) {
    const known = ids.filter(id => data.cells[id]);
    if (!known.length || (pinned && !pin)) return;
    pinned = pin;
    inspector.replaceChildren(element("h2", known[0].replace(/-seed\d+-[0-9a-f]+$/, "")));
    const close = element("button", "×", { type: "button", "aria-label": "close" });
    close.addEventListener("click", hide);
    const seeds = element("div", undefined, { class: "seeds" });
    seeds.append(seedsTable(known));
    inspector.append(close, seeds, ...facts(known));
    const curves = element("div", undefined, { class: "curves" });
    inspector.append(curves, records(known));
    inspector.hidden = false;
    library().then(() => { if (curves.isConnected) drawCurves(curves, known); });
  }

  function hide() {
    pinned = false;
    inspector.hidden = true;
  }

  function seedsTable(ids) {
    const names = ["seed", "test", "validation", "dense", "pruned", "speedup", "status"];
    const table = element("table");
    const head = table.createTHead().insertRow();
    for (const name of names) head.append(element("th", name));
    const body = table.createTBody();
    for (const id of ids) {
      const row = body.insertRow();
      for (const name of names) row.append(element("td", data.cells[id][name] ?? "–"));
    }
    return table;
  }

  function facts(ids) {
    const unique = name => [...new Set(ids.map(id => data.cells[id][name]).filter(value => value !== undefined))].join("; ");
    const seconds = ids.reduce((sum, id) => sum + (data.cells[id].seconds || 0), 0);
    const lines = [unique("remarks"), [unique("device"), unique("commit"), `${seconds.toFixed(1)} s`].filter(Boolean).join(", ")];
    return lines.filter(Boolean).map(line => element("p", line));
  }

  function records(ids) {
    const folded = element("details");
    const told = id => {
      const { history, rate, ...others } = data.cells[id];
      return [id, ...Object.entries(others).map(([name, value]) => `  ${name}: ${value}`)].join("\n");
    };
    folded.append(element("summary", ids.length > 1 ? "records" : "record"), element("pre", ids.map(told).join("\n")));
    return folded;
  }

  function drawCurves(target, ids) {
    const traces = [];
    for (const id of ids) {
      const cell = data.cells[id], rate = data.curves[cell.rate], history = cell.history || {};
      const common = { type: "scatter", mode: "lines", name: `seed ${cell.seed}`, showlegend: false };
      if (rate) traces.push({ ...common, x: rate[0], y: rate[1] });
      if (history.validation) traces.push({ ...common, x: history.epoch, y: history.validation, xaxis: "x2", yaxis: "y2" });
    }
    if (!traces.length) return target.remove();
    const title = text => ({ title: { text, font: { size: 10 }, standoff: 4 }, tickfont: { size: 9 }, nticks: 4 });
    Plotly.newPlot(target, traces, themed({
      height: 170, margin: { t: 8, r: 8, l: 40, b: 34 }, grid: { rows: 1, columns: 2, pattern: "independent" },
      xaxis: title("iteration: learning rate"), yaxis: { tickfont: { size: 9 }, nticks: 4, rangemode: "tozero" },
      xaxis2: title(`epoch: val. ${data.cells[ids[0]].metric}`), yaxis2: { tickfont: { size: 9 }, nticks: 4 },
    }), { ...config, staticPlot: true });
  }

  const runsOf = target => target.closest?.("[data-runs]");
  const idsOf = node => node.dataset.runs.split(" ");
  let waiting;
  function leave() {
    clearTimeout(waiting);
    if (!pinned) waiting = setTimeout(hide, 400);
  }
  document.addEventListener("mouseover", event => {
    if (event.target.closest?.(".plot")) return;
    const node = runsOf(event.target);
    clearTimeout(waiting);
    if (node) waiting = setTimeout(() => inspect(idsOf(node)), 80);
    else if (!inspector.contains(event.target)) leave();
  });
  document.addEventListener("focusin", event => { const node = runsOf(event.target); if (node) inspect(idsOf(node)); });
  document.addEventListener("click", event => { const node = runsOf(event.target); if (node) inspect(idsOf(node), true); });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  for (const node of document.querySelectorAll("[data-runs]")) node.tabIndex = 0;

  // Figures, drawn when they come near the screen so that a page of many opens at once.

  function draw(figure) {
    const plot = data.plots[figure.dataset.plot], image = figure.querySelector("img");
    let target = figure.querySelector(".plot");
    if (!target) {
      target = element("div", undefined, { class: "plot" });
      image.before(target);
      image.hidden = true;
    }
    Plotly.react(target, plot.data.map(visible), themed(plot.layout), config).then(() => {
      if (target.dataset.ready) return;
      target.dataset.ready = "yes";
      const point = event => String(event.points[0].customdata || "").split(" ");
      target.on("plotly_hover", event => { clearTimeout(waiting); inspect(point(event)); });
      target.on("plotly_unhover", leave);
      target.on("plotly_click", event => inspect(point(event), true));
    });
  }

  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      library().then(() => draw(entry.target));
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll("figure[data-plot]")) watcher.observe(figure);
  dark.addEventListener("change", () => {
    hide();
    for (const target of document.querySelectorAll(".plot[data-ready]")) draw(target.closest("figure"));
  });

  // The list of cells.

  const list = document.getElementById("list");
  if (!list) return;
  const body = list.tBodies[0], rows = [...body.rows];
  const texts = new Map(rows.map(row => [row, [...row.cells].map(cell => cell.textContent)]));
  const filter = document.getElementById("filter"), status = document.getElementById("status");
  const column = name => [...list.tHead.rows[0].cells].findIndex(head => head.textContent === name);
  const statusColumn = column("status");
  list.parentElement.classList.add("scrolling");
  document.querySelector(".tools").hidden = false;
  for (const value of [...new Set(rows.map(row => texts.get(row)[statusColumn]))].sort()) status.append(new Option(value, value));

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const cells = texts.get(row), text = cells.join(" ").toLowerCase();
      const shown = (!status.value || cells[statusColumn] === status.value) && words.every(word => text.includes(word));
      row.hidden = !shown;
      count += shown;
    }
    document.getElementById("count").textContent = `${count} of ${rows.length} cells`;
  }

  function compare(a, b) {
    const numbers = [Number(a), Number(b)];
    return numbers.some(Number.isNaN) ? a.localeCompare(b, "en", { numeric: true }) : numbers[0] - numbers[1];
  }

  function sort(head, index) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of list.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => texts.get(row)[index];
    const empty = row => key(row) === "";
    rows.sort((a, b) => empty(a) || empty(b) ? empty(a) - empty(b) : (down ? -1 : 1) * compare(key(a), key(b)));
    body.append(...rows);
  }

  [...list.tHead.rows[0].cells].forEach((head, index) => {
    const button = element("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(head, index));
  });
  filter.addEventListener("input", show);
  status.addEventListener("change", show);
  show();
})();
