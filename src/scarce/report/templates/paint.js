"use strict";

// What cells can be coloured by: groups of cells, or a number per cell; and how values are written.

// From little to much, dark enough on white at every step; and around zero, from below to above.
const RISING = [[221, 226, 231], [158, 202, 225], [66, 146, 198], [8, 81, 156], [4, 30, 66]];
const AROUND_ZERO = [[140, 65, 6], [224, 146, 60], [226, 228, 231], [117, 107, 177], [52, 12, 102]];
const CIRCLE = 0;
const SQUARE = 1;

const whole = (value) => value.toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
const short = (value) => `${Number.isInteger(value) ? whole(value) : value.toPrecision(3)}`.replace("-", "−");
const mixed = (colour, share) => colour.map((part) => Math.round(part + share * (255 - part)));
const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const css = (colour) => `rgb(${colour.join(" ")})`;
const shade = (stops, share) => {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((part, k) => Math.round(part + (at - low) * (stops[low + 1][k] - part)));
};

// What a cluster is made of: one type only where more than half of its cells are of it.
const makeup = (name, share) => (share > 0.5 ? `mostly ${name}` : `commonest: ${name}, ${percent(share)}`);

// A clustering or the types as groups with a look; clusters wear that of their commonest type,
// paler for each further cluster of that type, as in the figures.
const typeGroups = (cells) => cells.types.map((type) => ({
  name: type.shown, colour: parts(type.colour), shape: type.shape, path: type.path, filled: type.filled,
}));
const clusterGroups = (cells, clusters) => {
  const nGroups = clusters.reduce((most, cluster) => Math.max(most, cluster), 0) + 1;
  const mix = Array.from({ length: nGroups }, () => new Uint32Array(cells.types.length));
  clusters.forEach((cluster, cell) => { mix[cluster][cells.typeOf[cell]] += 1; });
  const seen = new Map();
  return mix.map((counts, cluster) => {
    const most = Math.max(...counts);
    const commonest = counts.indexOf(most);
    const size = counts.reduce((sum, n) => sum + n, 0);
    const type = cells.types[commonest];
    const times = seen.get(commonest) ?? 0;
    seen.set(commonest, times + 1);
    return {
      name: `${cluster}`,
      about: size ? makeup(type.shown, most / size) : "",
      colour: mixed(parts(type.colour), 0.45 * Math.min(times, 1.6)),
      shape: type.shape, path: type.path, filled: type.filled,
    };
  });
};
const grouped = (title, groups, of) => {
  const sizes = new Uint32Array(groups.length);
  of.forEach((group) => { sizes[group] += 1; });
  return { title, shown: title, of, groups: groups.map((group, i) => ({ ...group, size: sizes[i] })) };
};
const scaled = (title, values, shown = title) => {
  let [low, high] = [Infinity, -Infinity];
  values.forEach((value) => {
    if (value < low) low = value;
    if (value > high) high = value;
  });
  const signed = low < 0 && high > 0;
  if (signed) [low, high] = [Math.min(low, -high), Math.max(-low, high)];
  return { title, shown, values, low, high, signed };
};

// A name as people see it: it must not turn the direction of the words around it.
const isolated = (name) => {
  if (/^[\x20-\x7e]*$/.test(name)) return name;
  return `\u2068${name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd")}\u2069`;
};

// What a spreadsheet would take for a formula gets an apostrophe in front.
const harmless = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
const field = (value) => {
  const text = typeof value === "string" ? harmless(value) : `${value}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
