"use strict";

// The explorer: two linked maps of one model, coloured by anything, and what a selection holds.
// Without WebGL 2, or without this script, the still pictures stay in place.

const TOO_MANY_NAMES = 40;
const N_TOP = 12;
const N_SUGGESTED = 20;

const byId = (id) => document.getElementById(id);
const element = (tag, text = "", attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};

const explore = (cells) => {
  const section = byId("explorer");
  const [modelChoice, colourChoice, geneInput] = ["model", "colour", "gene"].map(byId);
  const [legend, ramp, chosen, tip, status] =
    ["legend", "ramp", "selection", "tip", "explorer-status"].map(byId);
  let model = cells.models[0];
  let paint = null;
  let marked = null; // 1 for every selected cell, or null
  let pressed = new Set(); // groups of the legend that make up the selection
  let selectedAs = "";
  let before = [marked, selectedAs, pressed]; // as a map was last clicked: a double click is no choice
  let names = [];
  let later = 0;

  const told = {
    lasso: () => byId("lasso").checked,
    hover: (map, cell, x, y) => hover(map, cell, x, y),
    click: (cell) => {
      before = [marked, selectedAs, pressed];
      if (cell >= 0) pick(cell);
    },
    clickedTwice: () => {
      [marked, selectedAs, pressed] = before;
      selected();
    },
    encircled: (mask) => select(mask, "encircled"),
    clear: () => clear(),
    moved: () => { placeNames(); ring(-1); },
    lost: () => section.classList.remove("live"),
  };
  const maps = [cellMap(byId("flat"), false, told), cellMap(byId("solid"), true, told)];
  if (maps.includes(null)) return false;
  section.classList.add("live");
  const [flat] = maps;

  // --- colour -------------------------------------------------------------------------------
  const paints = () => {
    const found = new Map([["types", () => grouped("Cell type", typeGroups(cells), cells.typeOf)]]);
    const add = (key, make) => found.set(key, make);
    if (model.kmeans) {
      add("kmeans", () => grouped("k-means on the 2-D map", clusterGroups(cells, model.kmeans), model.kmeans));
    }
    if (model.leiden) {
      add("leiden", () => grouped("Leiden in the latent space", clusterGroups(cells, model.leiden), model.leiden));
    }
    cells.quality.forEach(({ name, values }) => add(`quality ${name}`, () => scaled(name, values)));
    model.latents.forEach((values, k) => add(`latent ${k + 1}`, () => scaled(`Latent ${k + 1}`, values())));
    model.inclusion.forEach((values, k) => add(`inclusion ${k + 1}`, () =>
      ({ ...scaled(`Inclusion probability of latent ${k + 1}`, values()), low: 0, high: 1 })));
    return found;
  };
  const options = () => {
    const kept = colourChoice.value;
    const found = paints();
    const heads = { quality: "Quality", latent: "Latents", inclusion: "Inclusion probability" };
    const title = { types: "Cell type", kmeans: "k-means on the 2-D map", leiden: "Leiden in the latent space" };
    const lists = new Map();
    colourChoice.replaceChildren();
    for (const key of found.keys()) {
      const [head, ...rest] = key.split(" ");
      if (!heads[head]) {
        colourChoice.append(element("option", title[key], { value: key }));
        continue;
      }
      if (!lists.has(head)) {
        lists.set(head, element("optgroup", "", { label: heads[head] }));
        colourChoice.append(lists.get(head));
      }
      const words = head === "quality" ? rest.join(" ") : `latent ${rest[0]}`;
      lists.get(head).append(element("option", words, { value: key }));
    }
    const gene = element("option", "a gene", { value: "gene", hidden: "" });
    colourChoice.append(gene);
    colourChoice.value = found.has(kept) || kept === "gene" ? kept : "types";
  };
  const recolour = () => {
    if (colourChoice.value !== "gene") {
      geneInput.value = "";
      status.textContent = "";
      use(paints().get(colourChoice.value)());
    }
  };
  const use = (next) => {
    paint = next;
    pressed = new Set();
    const colours = new Uint8Array(3 * cells.n);
    const shapes = new Uint8Array(cells.n);
    const put = (cell, [red, green, blue]) => {
      colours[3 * cell] = red;
      colours[3 * cell + 1] = green;
      colours[3 * cell + 2] = blue;
    };
    if (paint.groups) {
      paint.of.forEach((group, cell) => {
        put(cell, paint.groups[group].colour);
        shapes[cell] = paint.groups[group].shape;
      });
    } else {
      // Below zero a square, so that the side of zero is seen without colour.
      const stops = Array.from({ length: 256 }, (_, i) => shade(paint.signed ? AROUND_ZERO : RISING, i / 255));
      paint.values.forEach((value, cell) => {
        put(cell, stops[Math.round(255 * position(value))]);
        shapes[cell] = paint.signed && value < 0 ? SQUARE : CIRCLE;
      });
    }
    for (const map of maps) map.paint(colours, shapes);
    arrange();
    showLegend();
    nameGroups();
    describe();
  };
  const position = (value) => {
    const { low, high } = paint;
    return Math.min(Math.max((value - low) / (high - low || 1), 0), 1);
  };
  // High values last, so that they lie on top; what is not selected before all others.
  const arrange = () => {
    const order = Uint32Array.from({ length: cells.n }, (_, cell) => cell);
    if (!paint.groups) {
      const high = Float32Array.from(paint.values, (value) => (paint.signed ? Math.abs(value) : value));
      order.sort((a, b) => high[a] - high[b]);
    }
    let nFaded = 0;
    let sorted = order;
    if (marked !== null) {
      sorted = new Uint32Array(cells.n);
      for (const cell of order) if (!marked[cell]) sorted[nFaded++] = cell;
      let next = nFaded;
      for (const cell of order) if (marked[cell]) sorted[next++] = cell;
    }
    for (const map of maps) map.arrange(sorted, nFaded);
  };
  const describe = () => {
    const kept = marked === null ? "" : `, ${whole(count(marked))} cells selected`;
    for (const { holder, solid } of maps) {
      holder.setAttribute("aria-label",
        `${solid ? "3-D" : "2-D"} map of ${model.title}, coloured by ${paint.shown}${kept}`);
    }
  };
  const count = (mask) => mask.reduce((sum, one) => sum + one, 0);

  // --- legend -------------------------------------------------------------------------------
  const swatch = (group) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", group.path);
    path.setAttribute("fill", group.filled ? css(group.colour) : "none");
    path.setAttribute("stroke", css(group.colour));
    path.setAttribute("stroke-width", group.filled ? "0" : "2");
    svg.append(path);
    return svg;
  };
  const showLegend = () => {
    legend.hidden = !paint.groups;
    ramp.hidden = Boolean(paint.groups);
    legend.replaceChildren();
    if (paint.groups) {
      paint.groups.forEach((group, i) => {
        const button = element("button", "", { type: "button", "aria-pressed": `${pressed.has(i)}` });
        const words = element("span", group.name);
        button.append(swatch(group), words);
        if (group.about) button.append(element("i", group.about));
        button.append(element("small", whole(group.size)));
        button.addEventListener("click", () => press(i));
        const item = element("li");
        item.append(button);
        legend.append(item);
      });
      return;
    }
    const stops = paint.signed ? AROUND_ZERO : RISING;
    byId("ramp-title").textContent = paint.shown;
    byId("ramp-low").textContent = short(paint.low);
    byId("ramp-high").textContent = short(paint.high);
    byId("ramp-bar").style.background = `linear-gradient(to right, ${stops.map(css).join(", ")})`;
    byId("ramp-note").textContent = paint.signed ? "Squares lie below zero, circles above." : "";
    byId("above").value = "50";
    byId("above-value").textContent = short(threshold());
  };
  const threshold = () => paint.low + (Number(byId("above").value) / 100) * (paint.high - paint.low);
  const press = (group) => {
    pressed[pressed.has(group) ? "delete" : "add"](group);
    if (pressed.size === 0) return clear();
    const mask = Uint8Array.from(paint.of, (of) => (pressed.has(of) ? 1 : 0));
    const words = [...pressed].sort((a, b) => a - b).map((i) => paint.groups[i].name).join(", ");
    return select(mask, `${paint.title}: ${words}`, pressed);
  };
  const pick = (cell) => {
    if (paint.groups) {
      pressed = new Set();
      press(paint.of[cell]);
    } else {
      const type = cells.typeOf[cell];
      select(Uint8Array.from(cells.typeOf, (of) => (of === type ? 1 : 0)), `Cell type: ${cells.types[type].shown}`);
    }
  };

  // --- selection ----------------------------------------------------------------------------
  const select = (mask, words, groups = new Set()) => {
    if (count(mask) === 0) return clear();
    [marked, selectedAs, pressed] = [mask, words, groups];
    return selected();
  };
  const clear = () => {
    [marked, selectedAs, pressed] = [null, "", new Set()];
    selected();
  };
  const selected = () => {
    arrange();
    describe();
    legend.querySelectorAll("button").forEach((button, i) => {
      button.setAttribute("aria-pressed", `${pressed.has(i)}`);
    });
    chosen.hidden = marked === null;
    byId("clear").disabled = marked === null;
    clearTimeout(later);
    if (marked === null) {
      byId("selection-size").textContent = "";
      return;
    }
    const n = count(marked);
    byId("selection-size").textContent =
      `${whole(n)} of ${whole(cells.n)} cells (${percent(n / cells.n)}), ${selectedAs}`;
    mixOfTypes(n);
    byId("top-genes").replaceChildren();
    // After the maps are drawn: every gene is read once.
    later = setTimeout(() => genesOf(n), 30);
  };
  const row = (...items) => {
    const made = element("tr");
    items.forEach((item, i) => {
      const cell = element(i ? "td" : "th", "", i ? { class: "amount" } : { scope: "row" });
      cell.append(item);
      made.append(cell);
    });
    return made;
  };
  const mixOfTypes = (n) => {
    const counts = new Uint32Array(cells.types.length);
    const sizes = new Uint32Array(cells.types.length);
    cells.typeOf.forEach((type, cell) => {
      sizes[type] += 1;
      counts[type] += marked[cell];
    });
    const order = [...counts.keys()].filter((type) => counts[type]).sort((a, b) => counts[b] - counts[a]);
    const rowOf = (words, types) => {
      const [inside, all] = [counts, sizes].map((of) => types.reduce((sum, type) => sum + of[type], 0));
      return row(words, whole(inside), percent(inside / n), percent(inside / all));
    };
    const [top, rest] = [order.slice(0, N_TOP), order.slice(N_TOP)];
    byId("type-mix").replaceChildren(
      ...top.map((type) => rowOf(cells.types[type].shown, [type])),
      ...(rest.length ? [rowOf(`${rest.length} other type${rest.length > 1 ? "s" : ""}`, rest)] : []),
    );
  };
  const genesOf = (n) => {
    const top = cells.topGenes(marked, n, N_TOP);
    byId("genes-none").hidden = top.length > 0;
    byId("genes-table").hidden = top.length === 0;
    byId("top-genes").replaceChildren(...top.map(({ gene, t, inside, outside, change }) => {
      const name = cells.genes[gene];
      const button = element("button", isolated(name), { type: "button", title: "Colour the maps by this gene" });
      button.addEventListener("click", () => {
        geneInput.value = name;
        byGene(gene);
      });
      return row(button, percent(inside), percent(outside), change.toFixed(2), t.toFixed(1));
    }));
  };
  const table = () => {
    const scores = paint.groups ? [] : [[paint.title, (cell) => Number(paint.values[cell].toPrecision(6))]];
    const columns = [
      ["barcode", (cell) => cells.barcodes[cell]],
      ["cell_type", (cell) => cells.types[cells.typeOf[cell]].name],
      ...(model.kmeans ? [[`k-means, ${model.title}`, (cell) => model.kmeans[cell]]] : []),
      ...(model.leiden ? [[`Leiden, ${model.title}`, (cell) => model.leiden[cell]]] : []),
      ...cells.quality.map(({ name, values }) => [name, (cell) => Number(values[cell].toPrecision(6))]),
      ...scores,
    ];
    const lines = [columns.map(([name]) => field(name)).join(",")];
    marked.forEach((one, cell) => {
      if (one) lines.push(columns.map(([, value]) => field(value(cell))).join(","));
    });
    return `${lines.join("\n")}\n`;
  };
  const download = () => {
    const link = element("a", "", { download: "selected_cells.csv" });
    link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
    link.click();
    URL.revokeObjectURL(link.href);
  };

  // --- genes --------------------------------------------------------------------------------
  const upper = cells.genes.map((name) => name.toUpperCase());
  const suggestions = (text) => {
    const wanted = text.trim().toUpperCase();
    if (!wanted) return [];
    const all = [...upper.keys()];
    const starting = all.filter((gene) => upper[gene].startsWith(wanted));
    const holding = all.filter((gene) => upper[gene].indexOf(wanted) > 0);
    return [...starting.sort((a, b) => upper[a].length - upper[b].length), ...holding].slice(0, N_SUGGESTED);
  };
  const suggest = () => {
    const found = suggestions(geneInput.value);
    byId("genes").replaceChildren(...found.map((gene) => element("option", "", { value: cells.genes[gene] })));
    const exact = upper.indexOf(geneInput.value.trim().toUpperCase());
    if (exact >= 0) byGene(exact);
    return found;
  };
  const search = () => {
    const [first] = suggest();
    if (!geneInput.value.trim()) return;
    if (first === undefined) {
      status.textContent =
        `No gene called ${isolated(geneInput.value.trim())} among the ${whole(cells.genes.length)} on this page.`;
      return;
    }
    geneInput.value = cells.genes[first];
    byGene(first);
  };
  const byGene = (gene) => {
    status.textContent = "";
    colourChoice.querySelector("[value=gene]").textContent = isolated(cells.genes[gene]);
    colourChoice.value = "gene";
    const [title, shown] = [cells.genes[gene], isolated(cells.genes[gene])]
      .map((name) => `${name}, log-normalised expression`);
    use(scaled(title, cells.expression(gene), shown));
  };

  // --- pointing -----------------------------------------------------------------------------
  const hover = (map, cell, x, y) => {
    tip.hidden = cell < 0;
    ring(cell);
    if (cell < 0) return;
    const lines = [
      isolated(cells.barcodes[cell]), cells.types[cells.typeOf[cell]].shown,
      ...(model.kmeans ? [`k-means cluster ${model.kmeans[cell]}`] : []),
      ...(model.leiden ? [`Leiden cluster ${model.leiden[cell]}`] : []),
      ...cells.quality.map(({ name, values }) => `${name}: ${short(values[cell])}`),
      ...(paint.values ? [`${paint.shown}: ${short(paint.values[cell])}`] : []),
    ];
    tip.replaceChildren(...lines.map((line, i) => element(i ? "span" : "b", line)));
    map.holder.append(tip);
    const right = x > map.canvas.clientWidth / 2;
    tip.style.left = right ? "auto" : `${x + 14}px`;
    tip.style.right = right ? `${map.canvas.clientWidth - x + 14}px` : "auto";
    const lowest = map.canvas.clientHeight - tip.offsetHeight;
    tip.style.top = `${Math.max(0, Math.min(y + 10, lowest))}px`;
  };
  // The same cell on both maps.
  const ring = (cell) => {
    for (const map of maps) {
      const mark = map.holder.querySelector(".ring");
      mark.hidden = cell < 0;
      if (cell < 0) continue;
      const [x, y] = map.where(cell);
      mark.style.transform = `translate(${x}px, ${y}px)`;
    }
  };

  // --- names of groups on the flat map ------------------------------------------------------
  const nameGroups = () => {
    names.forEach(({ label }) => label.remove());
    names = [];
    const none = !paint.groups || paint.groups.length > TOO_MANY_NAMES;
    byId("names").disabled = none;
    if (none || !byId("names").checked) return;
    const members = paint.groups.map(() => []);
    paint.of.forEach((group, cell) => members[group].push(cell));
    const [xs, ys] = model.flat;
    const middle = (values) => Float32Array.from(values).sort()[values.length >> 1];
    members.forEach((group, i) => {
      if (group.length === 0) return;
      const label = element("span", paint.groups[i].name, { class: "name" });
      flat.holder.querySelector(".names").append(label);
      names.push({ label, x: middle(group.map((c) => xs[c])), y: middle(group.map((c) => ys[c])), wide: label.offsetWidth, high: label.offsetHeight });
    });
    placeNames();
  };
  const placeNames = () => {
    const edge = flat.canvas.clientWidth;
    const spots = names.map((name) => {
      const [x, y] = flat.project(name.x, name.y, 0);
      // A name whose middle is in sight stays whole within the map.
      const room = x >= 0 && x <= edge ? name.wide / 2 + 3 : -Infinity;
      return { ...name, at: Math.min(Math.max(x, room), edge - room), top: y };
    });
    apart(spots);
    for (const { label, at, top } of spots) {
      label.style.transform = `translate(${at}px, ${top}px) translate(-50%, -50%)`;
    }
  };
  const apart = (spots) => {
    for (let round = 0; round < 30; round++) {
      let moved = false;
      for (let i = 0; i < spots.length; i++) {
        for (let j = i + 1; j < spots.length; j++) {
          const [a, b] = [spots[i], spots[j]];
          const deep = (a.high + b.high) / 2 - Math.abs(a.top - b.top);
          if (deep <= 0.5 || Math.abs(a.at - b.at) > (a.wide + b.wide) / 2) continue;
          const down = a.top >= b.top ? 1 : -1;
          a.top += (down * deep) / 2;
          b.top -= (down * deep) / 2;
          moved = true;
        }
      }
      if (!moved) return;
    }
  };

  // --- start --------------------------------------------------------------------------------
  const useModel = () => {
    model = cells.models[Number(modelChoice.value)];
    const [twoD, threeD] = maps;
    twoD.place(model.flat);
    threeD.place(model.solid);
    twoD.reset();
    options();
    if (colourChoice.value === "gene") {
      nameGroups();
      describe();
    } else recolour();
  };
  cells.models.forEach(({ title }, i) => modelChoice.append(element("option", title, { value: `${i}` })));
  modelChoice.addEventListener("change", useModel);
  colourChoice.addEventListener("change", recolour);
  geneInput.addEventListener("input", suggest);
  geneInput.addEventListener("keydown", (event) => { if (event.key === "Enter") search(); });
  geneInput.disabled = cells.genes.length === 0;
  byId("names").addEventListener("change", nameGroups);
  byId("reset").addEventListener("click", () => maps.forEach((map) => map.reset()));
  byId("clear").addEventListener("click", clear);
  byId("csv").addEventListener("click", download);
  byId("above").addEventListener("input", () => {
    const least = threshold();
    byId("above-value").textContent = short(least);
    select(Uint8Array.from(paint.values, (value) => (value >= least ? 1 : 0)), `${paint.shown} at least ${short(least)}`);
  });
  section.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
  byId("genes-note").textContent = cells.genes.length
    ? `${whole(cells.genes.length)} genes: markers and the most variable ones${cells.genes.length < cells.nGenes ? ", as many as there is room for" : ""}.`
    : "";
  useModel();
  return true;
};

unpack(byId("cells").textContent).then(explore).then((live) => {
  byId("no-webgl").hidden = live;
  byId("explorer").dataset.state = live ? "live" : "still";
});
