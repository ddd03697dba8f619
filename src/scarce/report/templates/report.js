"use strict";

// Draws the 3-D maps. Without WebGL, or without this script, the still pictures stay in place.
(() => {
  const section = document.getElementById("maps-3d");
  const plot = document.getElementById("plot");
  const choice = document.getElementById("model");
  const data = JSON.parse(document.getElementById("cells").textContent);
  const turn = Math.PI / 18;
  const start = { x: 1.25, y: 1.1, z: 0.75 };

  // plotly reads a little HTML in its texts, and a barcode must not become a link.
  const literal = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

  const hasWebGL = () => {
    const context = document.createElement("canvas").getContext("webgl");
    return context !== null;
  };

  const trace = (map, type, index) => {
    const cells = [...data.type_of.keys()].filter((cell) => data.type_of[cell] === index);
    const [x, y, z] = map.points.map((axis) => cells.map((cell) => axis[cell]));
    const hover = (cell) => {
      const cluster = map.clusters.length ? `<br>k-means cluster ${map.clusters[cell]}` : "";
      return `${literal(data.barcodes[cell])}<br>${literal(type.name)}${cluster}`;
    };
    return {
      type: "scatter3d",
      mode: "markers",
      name: literal(type.name),
      x, y, z,
      text: cells.map(hover),
      hoverinfo: "text",
      marker: {
        color: type.colour,
        symbol: type.symbol,
        size: data.type_of.length > 5000 ? 2 : 4,
        opacity: 0.9,
        line: { width: 0 },
      },
    };
  };

  const layout = () => {
    // The axes of a t-SNE map mean nothing by themselves, so they have neither name nor number.
    const axis = {
      title: { text: "" },
      showticklabels: false,
      showspikes: false,
      gridcolor: "#d3d9df",
      zeroline: false,
    };
    const narrow = plot.clientWidth < 760;
    return {
      margin: { l: 0, r: 0, t: 0, b: 0 },
      paper_bgcolor: "#ffffff",
      font: { family: "system-ui, sans-serif", size: 13, color: "#1b1f24" },
      hoverlabel: { align: "left" },
      legend: narrow
        ? { orientation: "h", y: 0, yanchor: "top", itemsizing: "constant" }
        : { y: 0.5, yanchor: "middle", itemsizing: "constant" },
      // While the model changes, the types switched off stay off and the viewpoint stays.
      uirevision: "kept",
      scene: {
        aspectmode: "cube",
        camera: plot.layout?.scene.camera ?? { eye: start },
        xaxis: axis,
        yaxis: axis,
        zaxis: axis,
      },
    };
  };

  const config = {
    responsive: true,
    displaylogo: false,
    // Named one by one, because the default set has a button that uploads the data.
    modeBarButtons: [
      ["toImage"],
      ["zoom3d", "pan3d", "orbitRotation", "tableRotation"],
      ["resetCameraDefault3d"],
    ],
    toImageButtonOptions: { format: "png", filename: "map3d", scale: 2 },
  };

  const draw = () => {
    const map = data.maps[Number(choice.value)];
    plot.setAttribute("aria-label", `3-D t-SNE map, ${map.title}`);
    const traces = data.types.map((type, index) => trace(map, type, index));
    return Plotly.react(plot, traces, layout(), config);
  };

  const rotate = (event) => {
    const [around, up] = {
      ArrowLeft: [turn, 0],
      ArrowRight: [-turn, 0],
      ArrowUp: [0, turn],
      ArrowDown: [0, -turn],
    }[event.key] ?? [0, 0];
    if (event.target !== plot || (around === 0 && up === 0)) return;
    event.preventDefault();
    const { x, y, z } = plot.layout.scene.camera.eye;
    const distance = Math.hypot(x, y, z);
    const azimuth = Math.atan2(y, x) + around;
    const limit = Math.PI / 2 - 0.05;
    const elevation = Math.max(-limit, Math.min(limit, Math.asin(z / distance) + up));
    Plotly.relayout(plot, {
      "scene.camera.eye": {
        x: distance * Math.cos(elevation) * Math.cos(azimuth),
        y: distance * Math.cos(elevation) * Math.sin(azimuth),
        z: distance * Math.sin(elevation),
      },
    });
  };

  const showStills = () => {
    section.classList.remove("turnable");
    document.getElementById("no-webgl").hidden = false;
  };

  if (!hasWebGL()) {
    showStills();
    return;
  }
  section.classList.add("turnable");
  draw().then(() => {
    plot.on("plotly_webglcontextlost", showStills);
    choice.addEventListener("change", draw);
    plot.addEventListener("keydown", rotate);
  }, showStills);
})();
