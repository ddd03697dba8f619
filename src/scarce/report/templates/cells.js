"use strict";

// The cells of the page, unpacked: see scarce/report/payload.py for how they were packed.

const DEPTH = 10000; // counts every cell is scaled to before the logarithm, as in the analysis

const unpack = async (text) => {
  const letters = atob(text.trim());
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const raw = await new Response(stream).arrayBuffer();
  const size = new DataView(raw).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 8, size)));
  const kinds = { Uint8: Uint8Array, Uint16: Uint16Array, Uint32: Uint32Array, Float32: Float32Array };
  const array = (number) => {
    const { dtype, start, length } = header.arrays[number];
    return new kinds[dtype](raw, 8 + size + start, length);
  };
  return readCells(header, array);
};

const readCells = (header, array) => {
  const { n_cells: n, genes } = header;
  const column = ({ values, low, high }) =>
    Float32Array.from(array(values), (step) => low + (step / 255) * (high - low));
  const axis = (number) => Float32Array.from(array(number), (step) => (step - 32767) / 32767);
  const clusters = (number) => (number === null ? null : array(number));
  const quality = header.quality.map(({ name, values }) => ({ name, values: array(values) }));
  const totals = quality.find(({ name }) => name === "counts")?.values;
  const streams = genes.names.length && totals
    ? ["gap", "count"].map((name) => [array(genes[`${name}s`]), array(genes[`${name}_ends`])])
    : null;

  // Calls visit(cell, count) for every cell in which the gene was found. Whole numbers are bytes,
  // 255 meaning "255 and what follows": gaps between cells in one stream, counts in the other.
  const eachCell = (gene, visit) => {
    const [[gaps, gapEnds], [counts, countEnds]] = streams;
    let [cell, g, c] = [0, gapEnds[gene], countEnds[gene]];
    while (g < gapEnds[gene + 1]) {
      while (gaps[g] === 255) { cell += 255; g += 1; }
      cell += gaps[g++];
      let count = 0;
      while (counts[c] === 255) { count += 255; c += 1; }
      visit(cell, count + counts[c++]);
    }
  };
  const expression = (gene) => {
    const values = new Float32Array(n);
    eachCell(gene, (cell, count) => { values[cell] = Math.log1p((DEPTH * count) / totals[cell]); });
    return values;
  };

  // The genes that set the marked cells apart: Welch's t of log-normalised expression.
  const topGenes = (marked, nMarked, nTop) => {
    const rows = [];
    if (streams === null || nMarked < 2 || nMarked > n - 2) return rows;
    const size = [n - nMarked, nMarked];
    // Most counts are one or two, and a logarithm is dear.
    const logs = [1, 2].map((count) => Float64Array.from(totals, (total) => Math.log1p((DEPTH * count) / total)));
    const logOf = (cell, count) =>
      (count <= 2 ? logs[count - 1][cell] : Math.log1p((DEPTH * count) / totals[cell]));
    for (let gene = 0; gene < genes.names.length; gene++) {
      const [sums, squares, counts, cells] = [0, 1, 2, 3].map(() => new Float64Array(2));
      eachCell(gene, (cell, count) => {
        const side = marked[cell];
        const value = logOf(cell, count);
        sums[side] += value;
        squares[side] += value * value;
        counts[side] += (DEPTH * count) / totals[cell];
        cells[side] += 1;
      });
      const mean = Array.from(sums, (sum, side) => sum / size[side]);
      const error = Array.from(squares, (sum, side) =>
        Math.max(sum / size[side] - mean[side] ** 2, 0) / (size[side] - 1));
      const t = (mean[1] - mean[0]) / Math.sqrt(error[0] + error[1] || Infinity);
      const [outside, inside] = Array.from(counts, (sum, side) => sum / size[side]);
      rows.push({
        gene,
        t,
        inside: cells[1] / size[1],
        outside: cells[0] / size[0],
        change: Math.log2((inside + 1) / (outside + 1)),
      });
    }
    return rows.filter((row) => row.t > 0).sort((a, b) => b.t - a.t).slice(0, nTop);
  };

  return {
    n,
    barcodes: header.barcodes,
    types: header.types.map((type) => ({ ...type, shown: isolated(type.name) })),
    typeOf: array(header.type_of),
    genes: streams === null ? [] : genes.names,
    nGenes: genes.n_all,
    quality,
    expression,
    topGenes,
    models: header.models.map((model) => ({
      title: model.title,
      flat: model.flat.map(axis),
      solid: model.solid.map(axis),
      kmeans: clusters(model.kmeans),
      leiden: clusters(model.leiden),
      latents: model.latents.map((latent) => () => column(latent)),
      inclusion: model.inclusion.map((latent) => () => column(latent)),
    })),
  };
};
