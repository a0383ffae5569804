"use strict";
/* The gallery of a run. Its data come as scripts that call `act2see.about`, `.rows` and `.traces`, because a page that was opened as a file may not
   fetch other files. Texts are set as text; the only HTML is that of the traces, which act2see's own template has escaped. */
const act2see = (() => {
  const GOOD = new Set(["correct", "answered", "gained", "kept", "right in both"]);
  const BAD = new Set(["wrong", "lost", "rejected", "failed_calls"]);
  const NAMES = { none: "no call", retrieve: "retrieve", generate: "imagine", clip: "look at a time", zoom: "look closer" };
  const CHIPS = ["change", "outcome", "filter"]; // the first of these that the run has is shown as buttons, the others as menus
  const KEPT_FILES = 12; // of traces, in memory
  const OVERSCAN = 6; // rows drawn beyond each edge of the list
  const byId = (id) => document.getElementById(id);
  const words = (value) => NAMES[value] || value.replaceAll("_", " ");

  let about;
  const all = []; // every row, in the run's order
  let visible = []; // those that pass the filters, sorted
  let selected = null; // the row that is shown, or null for the overview
  const filters = new Map(); // facet -> value
  let query = "";
  let sort = ""; // "", or a name and "+" or "-"
  let isReading = false; // on a phone: the trace is shown in place of the list

  // Small things

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  function pill(value) {
    const kind = GOOD.has(value) ? "good" : BAD.has(value) || value.endsWith("_error") ? "bad" : "plain";
    return element("span", { class: `pill ${kind}`, text: { good: "✓ ", bad: "✗ ", plain: "" }[kind] + words(value) });
  }

  const stored = {
    // A browser may keep nothing for files: what is chosen then lasts as long as the page.
    get(name) {
      try {
        return localStorage.getItem(`act2see-view-${name}`);
      } catch (error) {
        return null;
      }
    },
    set(name, value) {
      try {
        localStorage.setItem(`act2see-view-${name}`, value);
      } catch (error) {
        // nothing to do
      }
    },
  };

  // Filters, search and sorting

  function apply() {
    const needle = query.trim().toLowerCase();
    const wanted = about.facets.map((facet) => filters.get(facet.name)); // undefined: not filtered
    const counts = about.facets.map(() => new Map());
    visible = [];
    for (const row of all) {
      if (needle && !row.haystack.includes(needle)) continue;
      let refused = 0;
      let by = -1;
      for (let place = 0; place < wanted.length; place += 1) {
        if (wanted[place] === undefined || row.values[place].includes(wanted[place])) continue;
        refused += 1;
        by = place;
      }
      if (refused === 0) visible.push(row);
      // A row that one filter alone refuses is counted in that one's menu: so many there would be with another choice.
      if (refused > 1) continue;
      for (let place = 0; place < wanted.length; place += 1) {
        if (refused && place !== by) continue;
        for (const value of row.values[place]) counts[place].set(value, (counts[place].get(value) || 0) + 1);
      }
    }
    if (sort) {
      const name = sort.slice(0, -1);
      const sign = sort.endsWith("-") ? -1 : 1;
      const last = sign * Infinity; // rows without the value come last either way
      const of = (row) => (name in row.sorts ? row.sorts[name] : last);
      visible.sort((one, two) => (of(one) === of(two) ? one.number - two.number : sign * (of(one) - of(two))));
    }
    visible.forEach((row, position) => (row.position = position));
    drawFilters(new Map(about.facets.map((facet, place) => [facet.name, counts[place]])));
    const total = all.length.toLocaleString("en");
    const unit = about.comparison ? "questions" : "traces";
    byId("count").textContent = visible.length === all.length ? `${total} ${unit}` : `${visible.length.toLocaleString("en")} of ${total} ${unit}`;
    list.reset();
    drawPosition();
  }

  function isVisible(row) {
    return row !== null && visible[row.position] === row;
  }

  function setFilter(name, value) {
    if (value) filters.set(name, value);
    else filters.delete(name);
    apply();
    remember();
  }

  const chipsFacet = () => about.facets.find((facet) => facet.name === CHIPS.find((name) => about.facets.some((one) => one.name === name)));

  function buildFilters() {
    const chips = chipsFacet();
    if (chips) {
      byId("outcomes").setAttribute("aria-label", chips.label);
      for (const value of chips.values) {
        const chip = element("button", { type: "button", class: "chip", "data-value": value, "aria-pressed": "false" });
        chip.append(pill(value), element("b"));
        chip.addEventListener("click", () => setFilter(chips.name, filters.get(chips.name) === value ? "" : value));
        byId("outcomes").append(chip);
      }
    }
    for (const facet of about.facets) {
      if (facet === chips || facet.values.length < 2) continue;
      const select = element("select", { "data-facet": facet.name, "aria-label": facet.label });
      select.append(element("option", { value: "", text: `${facet.label}: all` }));
      for (const value of [...facet.values].sort()) select.append(element("option", { value, "data-text": words(value) }));
      select.addEventListener("change", () => setFilter(facet.name, select.value));
      byId("selects").append(select);
    }
    const order = element("select", { id: "sort", "aria-label": "Sort" }, element("option", { value: "", text: "Sort: run order" }));
    for (const [name, label] of about.sorts) {
      order.append(element("option", { value: `${name}-`, text: `Most ${label}` }), element("option", { value: `${name}+`, text: `Least ${label}` }));
    }
    order.addEventListener("change", () => {
      sort = order.value;
      apply();
      remember();
    });
    byId("selects").append(order, element("button", { type: "button", id: "clear", text: "Clear filters", hidden: true }));
    byId("clear").addEventListener("click", () => {
      filters.clear();
      query = byId("search").value = "";
      apply();
      remember();
      byId("search").focus();
    });
  }

  function drawFilters(counts) {
    const chips = chipsFacet();
    for (const chip of document.querySelectorAll(".chip")) {
      chip.setAttribute("aria-pressed", String(filters.get(chips.name) === chip.dataset.value));
      chip.lastChild.textContent = (counts.get(chips.name).get(chip.dataset.value) || 0).toLocaleString("en");
    }
    for (const select of document.querySelectorAll("select[data-facet]")) {
      select.value = filters.get(select.dataset.facet) || "";
      select.classList.toggle("set", select.value !== "");
      const found = counts.get(select.dataset.facet);
      for (const option of select.options) {
        if (option.value) option.textContent = `${option.dataset.text} (${(found.get(option.value) || 0).toLocaleString("en")})`;
      }
    }
    byId("sort").value = sort;
    byId("clear").hidden = filters.size === 0 && query === "";
  }

  // The list: only the rows in sight are in the page

  const list = {
    drawn: new Map(), // row -> its element
    height: 0,
    reset() {
      for (const node of this.drawn.values()) node.remove();
      this.drawn.clear();
      this.height = parseFloat(getComputedStyle(byId("list")).getPropertyValue("--row"));
      byId("rows").style.height = `${visible.length * this.height}px`;
      byId("list").classList.toggle("empty", visible.length === 0);
      byId("list").scrollTop = 0;
      this.draw();
    },
    draw() {
      const { scrollTop, clientHeight } = byId("list");
      const first = Math.max(0, Math.floor(scrollTop / this.height) - OVERSCAN);
      const stop = Math.min(visible.length, Math.ceil((scrollTop + clientHeight) / this.height) + OVERSCAN);
      for (const [row, node] of this.drawn) {
        if (row.position < first || row.position >= stop) {
          node.remove();
          this.drawn.delete(row);
        }
      }
      for (const row of visible.slice(first, stop)) {
        if (!this.drawn.has(row)) this.drawn.set(row, byId("rows").appendChild(drawRow(row, this.height)));
        this.drawn.get(row).setAttribute("aria-selected", String(row === selected));
      }
      if (isVisible(selected)) byId("list").setAttribute("aria-activedescendant", `row-${selected.number}`);
      else byId("list").removeAttribute("aria-activedescendant");
    },
    reveal(row) {
      const box = byId("list");
      const top = row.position * this.height;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
    },
  };

  function drawRow(row, height) {
    const node = element("div", {
      class: "row",
      role: "option",
      id: `row-${row.number}`,
      "aria-setsize": visible.length,
      "aria-posinset": row.position + 1,
    });
    node.style.top = `${row.position * height}px`;
    const thumb = element("span", { class: row.imagined ? "thumb imagined" : "thumb", title: row.imagined ? "imagined, not in the video" : null });
    if (row.thumb) thumb.append(element("img", { src: `frames/${row.thumb}`, alt: "", loading: "lazy", decoding: "async" }));
    const meta = element("span", { class: "meta-line" });
    const verdict = row.facets.change || row.facets.outcome || row.facets.filter;
    if (verdict) meta.append(pill(verdict[0]));
    if (row.facets.outcome && row.facets.filter) meta.append(pill(row.facets.filter[0]));
    const rest = [...(row.facets.condition || []), ...(row.facets.kind || []), ...(row.facets.tool || []).map(words), row.video];
    meta.append(element("span", { class: "rest", text: rest.filter(Boolean).join(" · ") }));
    node.append(thumb, element("span", { class: "about" }, element("span", { class: "name", dir: "auto", text: row.title }), meta));
    node.addEventListener("click", () => select(row, true));
    return node;
  }

  // Traces, loaded when they are needed

  const loaded = new Map(); // file -> a promise of its traces
  const waiting = new Map(); // file -> what fulfils that promise

  function load(file) {
    if (!loaded.has(file)) {
      const promise = new Promise((resolve, reject) => {
        waiting.set(file, resolve);
        const script = element("script", { src: `data/${file}.js` });
        script.addEventListener("error", () => reject(new Error(`data/${file}.js cannot be read: this folder is not complete`)));
        for (const name of ["load", "error"]) script.addEventListener(name, () => script.remove());
        document.head.append(script);
      });
      loaded.set(file, promise);
      promise.catch(() => loaded.delete(file));
      if (loaded.size > KEPT_FILES) loaded.delete(loaded.keys().next().value);
    }
    return loaded.get(file);
  }

  const fileOf = (run, at) => `traces-${run}-${Math.floor(at / about.tracesAFile)}`;

  async function show() {
    const row = selected;
    drawPosition();
    document.body.classList.toggle("reading", isReading);
    byId("detail").scrollTop = 0;
    if (row === null) {
      byId("trace").replaceChildren(overview());
      return;
    }
    document.title = `${row.title.slice(0, 60)} · act2see`;
    const columns = row.sides.map((side, run) => {
      const column = element("section", { class: "side", "aria-label": about.runs.length > 1 ? about.runs[run].name : "Trace" });
      if (about.runs.length > 1) column.append(element("h2", { class: "run-name", dir: "auto", text: `${run ? "Second" : "First"}: ${about.runs[run].name}` }));
      column.append(facts(row, side));
      return column;
    });
    byId("trace").classList.toggle("compared", columns.length > 1);
    const bodies = await Promise.all(row.sides.map((side, run) => article(side, run)));
    if (row !== selected) return; // another one was chosen meanwhile
    columns.forEach((column, run) => column.append(bodies[run]));
    byId("trace").replaceChildren(...columns);
    for (const next of [visible[row.position + 1], visible[row.position - 1]]) {
      if (next) next.sides.forEach((side, run) => side && side.at !== null && load(fileOf(run, side.at)).catch(() => {}));
    }
  }

  async function article(side, run) {
    if (side === null) return element("p", { class: "message", text: "This run does not have the question." });
    if (side.at === null) return element("p", { class: "message", text: "There is no trace of it in this run." });
    try {
      const traces = await load(fileOf(run, side.at));
      const holder = document.createElement("template"); // scripts in it would not run, and the page's policy allows none
      holder.innerHTML = traces[side.at % about.tracesAFile];
      return holder.content;
    } catch (error) {
      return element("p", { class: "message broken", role: "alert", text: error.message });
    }
  }

  function facts(row, side) {
    const box = element("div", { class: "facts" });
    if (side === null) return box;
    const line = element("p", { class: "verdict" });
    if (side.outcome) line.append(pill(side.outcome));
    if (row.facets.change) line.append(pill(row.facets.change[0]));
    if (row.facets.filter) line.append(pill(row.facets.filter[0]));
    for (const name of ["condition", "looking", "kind"]) {
      for (const value of row.facets[name] || []) line.append(element("span", { class: "tag", text: words(value) }));
    }
    box.append(line);
    if (side.facts.length) {
      const pairs = side.facts.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { dir: "auto", text: value })));
      box.append(element("dl", {}, ...pairs));
    }
    return box;
  }

  // The overview

  function table(head, rows, caption) {
    const cells = (tag, values) => element("tr", {}, ...values.map((value, place) => element(place ? tag : "th", place ? {} : { scope: tag === "th" ? "col" : "row" }, String(value))));
    const made = element("table", {}, element("caption", { text: caption }));
    if (head) made.append(element("thead", {}, cells("th", head)));
    made.append(element("tbody", {}, ...rows.map((row) => cells("td", row))));
    return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, made);
  }

  function overview() {
    document.title = `${about.title} · act2see`;
    const box = element("div", { class: "overview" });
    if (about.comparison) {
      const head = ["questions of", "n", "first", "second", "difference, 95 %", "gained", "lost", "p"];
      box.append(element("h2", { text: "What the second run gained and lost" }), table(head, about.comparison.rows, "Right answers, and the exact test by McNemar"));
      const differing = about.comparison.differing;
      box.append(differing.length ? table(["setting or version", "first", "second"], differing, "What differs") : element("p", { text: "No recorded setting or version differs." }));
    } else {
      box.append(element("h2", { text: "Overview" }), outcomes());
    }
    if (about.leftOut.length) {
      const reasons = about.leftOut.map((reason) => element("li", { text: reason }));
      box.append(element("h2", { text: `${about.leftOut.length} traces cannot be read and are left out` }), element("ul", {}, ...reasons));
    }
    for (const run of about.runs) {
      const details = element("details", {}, element("summary", { text: `${run.settings.length} settings and versions of ${run.name}` }));
      details.append(table(null, run.settings, `Settings of ${run.name}`));
      box.append(details);
    }
    return box;
  }

  // By kind; of an audit by condition, in whose sum no figure means anything.
  function outcomes() {
    const facet = chipsFacet();
    if (!facet) return element("p", { text: "The run has no traces." });
    const by = about.facets.some((one) => one.name === "condition") ? "condition" : "kind";
    const groups = [...new Set(all.flatMap((row) => row.facets[by] || []))];
    const line = (name, rows) => {
      const counts = facet.values.map((value) => rows.filter((row) => (row.facets[facet.name] || []).includes(value)).length);
      return [words(name), rows.length, ...counts.map((count) => (rows.length ? `${count} (${((100 * count) / rows.length).toFixed(1)} %)` : "0"))];
    };
    const lines = groups.map((group) => line(group, all.filter((row) => (row.facets[by] || []).includes(group))));
    if (by === "kind") lines.unshift(line("all", all));
    return table([by, "traces", ...facet.values.map(words)], lines, `${facet.label} by ${by}`);
  }

  // Moving about

  function select(row, reads = false) {
    selected = row;
    if (reads) isReading = true;
    if (isVisible(row)) list.reveal(row);
    list.draw();
    remember();
    show();
  }

  function step(by) {
    if (!visible.length) return;
    const from = isVisible(selected) ? selected.position + by : by > 0 ? 0 : visible.length - 1;
    select(visible[Math.min(visible.length - 1, Math.max(0, from))]);
  }

  function drawPosition() {
    const at = isVisible(selected) ? selected.position : -1;
    byId("position").textContent = at >= 0 ? `${(at + 1).toLocaleString("en")} of ${visible.length.toLocaleString("en")}` : selected ? "not in the list" : "Overview";
    byId("previous").disabled = at === 0 || !visible.length;
    byId("next").disabled = at === visible.length - 1 || !visible.length;
  }

  function remember() {
    const told = new URLSearchParams([...filters]);
    if (query) told.set("q", query);
    if (sort) told.set("sort", sort);
    if (selected) told.set("trace", selected.id);
    history.replaceState(null, "", `#${told}`);
  }

  function readAddress() {
    const told = new URLSearchParams(location.hash.slice(1));
    filters.clear();
    for (const facet of about.facets) {
      if (told.has(facet.name)) filters.set(facet.name, told.get(facet.name));
    }
    query = byId("search").value = told.get("q") || "";
    sort = about.sorts.some(([name]) => told.get("sort") === `${name}-` || told.get("sort") === `${name}+`) ? told.get("sort") : "";
    selected = all.find((row) => row.id === told.get("trace")) || null;
    isReading = selected !== null;
    apply();
    if (isVisible(selected)) list.reveal(selected);
    list.draw();
    show();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    if (target.id === "search") {
      if (event.key === "Escape") searchFor("");
      else if (event.key === "Enter" || event.key === "ArrowDown") byId("list").focus();
      else return;
      event.preventDefault();
      return;
    }
    if (target.tagName === "SELECT" || target.tagName === "INPUT") return;
    const page = Math.max(1, Math.floor(byId("list").clientHeight / list.height) - 1);
    const inList = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const anywhere = { j: () => step(1), k: () => step(-1), "/": () => (leave(), byId("search").focus()), "?": () => byId("help").showModal() };
    if (target.id === "list" && event.key in inList) step(inList[event.key]);
    else if (target.id === "list" && event.key === "Enter" && selected) (select(selected, true), byId("detail").focus());
    else if (event.key === "Escape" && isReading) leave();
    else if (event.key in anywhere && byId("single-keys").checked) anywhere[event.key]();
    else return;
    event.preventDefault();
  }

  function leave() {
    isReading = false;
    document.body.classList.remove("reading");
    list.draw();
    byId("list").focus();
  }

  function searchFor(text) {
    query = byId("search").value = text;
    apply();
    remember();
  }

  const THEMES = { auto: ["◐", "automatic"], light: ["☀", "light"], dark: ["☾", "dark"] };

  function setTheme(name) {
    const [sign, label] = THEMES[name];
    document.documentElement.dataset.theme = name;
    byId("theme").textContent = sign;
    for (const attribute of ["aria-label", "title"]) byId("theme").setAttribute(attribute, `Colours: ${label}`);
    stored.set("theme", name);
  }

  function listen() {
    byId("list").addEventListener("scroll", () => requestAnimationFrame(() => list.draw()), { passive: true });
    window.addEventListener("resize", () => list.draw());
    byId("search").addEventListener("input", (event) => searchFor(event.target.value));
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("next").addEventListener("click", () => step(1));
    byId("previous").addEventListener("click", () => step(-1));
    byId("back").addEventListener("click", leave);
    byId("overview-open").addEventListener("click", () => select(null, true));
    byId("help-open").addEventListener("click", () => byId("help").showModal());
    byId("theme").addEventListener("click", () => {
      const names = Object.keys(THEMES);
      setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
    });
    byId("single-keys").checked = stored.get("single-keys") !== "no";
    byId("single-keys").addEventListener("change", (event) => stored.set("single-keys", event.target.checked ? "yes" : "no"));
    byId("trace").addEventListener("click", (event) => {
      // A mark on the timeline leads to its look; the page's address belongs to the gallery.
      const link = event.target.closest('a[href^="#"]');
      const goal = link && byId(link.getAttribute("href").slice(1));
      if (!goal) return;
      event.preventDefault();
      goal.tabIndex = -1;
      goal.focus({ preventScroll: true });
      goal.scrollIntoView({ block: "start" });
    });
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", readAddress);
  }

  function start() {
    all.forEach((row, number) => {
      row.number = number;
      row.haystack = `${row.title}\n${row.words}`.toLowerCase();
      row.values = about.facets.map((facet) => row.facets[facet.name] || []);
    });
    setTheme(stored.get("theme") in THEMES ? stored.get("theme") : "auto");
    buildFilters();
    listen();
    readAddress();
    if (!selected && !about.comparison && visible.length) {
      selected = visible[0]; // not in the address: nobody chose it
      list.draw();
      show();
    }
  }

  document.addEventListener("DOMContentLoaded", start);
  return {
    about: (told) => (about = told),
    rows: (more) => all.push(...more),
    traces: (run, number, articles) => {
      const file = `traces-${run}-${number}`;
      if (waiting.has(file)) waiting.get(file)(articles);
      waiting.delete(file);
    },
  };
})();
