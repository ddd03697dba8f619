"use strict";

// One map of cells on a canvas: points in two or three dimensions, drawn by the graphics card.
// It knows positions, colours and shapes, and nothing of what they mean.

const CORNERS = `#version 300 es
in vec3 place;
in vec3 colour;
in float shape;
uniform mat4 view;
uniform float size;
uniform float depth;
out vec3 ink;
flat out int kind;
flat out float pixels;
void main() {
  gl_Position = view * vec4(place, 1.0);
  gl_PointSize = max(1.5, size * mix(1.0, depth / gl_Position.w, step(0.5, depth)));
  pixels = gl_PointSize;
  // What lies behind is paler, as in haze.
  ink = mix(colour, vec3(1.0), step(0.5, depth) * 0.35 * clamp((gl_Position.w - 5.0) / 1.4, 0.0, 1.0));
  kind = int(shape);
}`;

// Distance to the outline, negative inside, in halves of the point: the shapes of the figures.
const INSIDE = `#version 300 es
precision mediump float;
in vec3 ink;
flat in int kind;
flat in float pixels;
uniform float strength;
out vec4 shown;
void main() {
  // Too small to have a shape.
  if (pixels < 3.5) {
    shown = vec4(ink, strength);
    return;
  }
  vec2 p = gl_PointCoord * 2.0 - 1.0;
  vec2 a = abs(p);
  float edge = length(p) - 0.82;
  if (kind == 1) edge = max(a.x, a.y) - 0.74;
  if (kind == 2) edge = 0.78 * (a.x + a.y - 0.98);
  if (kind == 3) edge = min(max(a.x - 0.33, a.y - 0.9), max(a.x - 0.9, a.y - 0.33));
  if (kind == 4) edge = abs(length(p) - 0.66) - 0.2;
  float soft = 1.4 / pixels;
  float alpha = 1.0 - smoothstep(-soft, soft, edge);
  if (alpha < 0.2) discard;
  // A rim a little darker parts neighbours of one colour, where there is room for one.
  float rim = pixels > 9.0 && kind != 4 ? smoothstep(-3.0 * soft, -soft, edge) : 0.0;
  shown = vec4(mix(ink, ink * 0.55, rim * 0.6), alpha * strength);
}`;

const STILL = 4; // pixels a pointer may go in a click

const cellMap = (holder, solid, told) => {
  const canvas = holder.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false });
  if (gl === null) return null;
  const program = linked(gl, CORNERS, INSIDE);
  const uniform = Object.fromEntries(
    ["view", "size", "depth", "strength"].map((name) => [name, gl.getUniformLocation(program, name)]),
  );
  const buffers = Object.fromEntries(
    ["place", "colour", "shape", "order"].map((name) => [name, gl.createBuffer()]),
  );
  const start = () => ({ x: 0, y: 0, zoom: 1, around: 0.72, up: 0.45 });
  let view = start();
  let points = [];
  let n = 0;
  let nFaded = 0;
  let asked = false;
  let screen = null; // where every cell is on the screen; computed when somebody points

  const store = (name, values, width, type, scaled) => {
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const location = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, width, type, scaled, 0, 0);
  };

  const place = (axes) => {
    n = axes[0].length;
    // In space cells may lie out to the corner of their cube; a ball stays in sight however turned.
    const reach = solid ? furthest(axes) : 1;
    points = axes.map((axis) => axis.map((value) => value / reach));
    const values = new Float32Array(3 * n);
    points.forEach((axis, k) => { for (let i = 0; i < n; i++) values[3 * i + k] = axis[i]; });
    store("place", values, 3, gl.FLOAT, false);
    refresh();
  };
  const paint = (colours, shapes) => {
    store("colour", colours, 3, gl.UNSIGNED_BYTE, true);
    store("shape", shapes, 1, gl.UNSIGNED_BYTE, false);
    refresh();
  };
  // Cells in the order they are drawn, the faded ones first.
  const arrange = (order, faded) => {
    nFaded = faded;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.order);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.STATIC_DRAW);
    refresh();
  };

  const matrix = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    const least = 0.94 * Math.min(width, height);
    const [wide, high] = [least / width, least / height];
    const { x, y, zoom } = view;
    if (!solid) {
      return [zoom * wide, 0, 0, 0, 0, zoom * high, 0, 0, 0, 0, 0, 0, x * wide, y * high, 0, 1];
    }
    const [sa, ca, se, ce] = [
      Math.sin(view.around), Math.cos(view.around), Math.sin(view.up), Math.cos(view.up),
    ];
    const right = [-sa, ca, 0];
    const above = [-ca * se, -sa * se, ce];
    const toward = [ca * ce, sa * ce, se];
    const far = 5; // of the eye, where the map is a ball of radius 1
    const [near, back] = [far - 1.8, far + 1.8];
    const [p, q] = [(back + near) / (back - near), (-2 * back * near) / (back - near)];
    const lens = far * zoom;
    const column = (k) => [
      wide * (lens * right[k] - x * toward[k]), high * (lens * above[k] - y * toward[k]),
      -p * toward[k], -toward[k],
    ];
    return [...[0, 1, 2].flatMap(column), wide * x * far, high * y * far, p * far + q, far];
  };

  // A point about as large as its share of the map, within what the eye can tell.
  const pointSize = () => {
    const side = Math.min(canvas.clientWidth, canvas.clientHeight);
    const base = Math.min(7.5, Math.max(2, (0.62 * side) / Math.sqrt(n)));
    return base * Math.min(2.4, Math.sqrt(view.zoom));
  };

  const draw = () => {
    asked = false;
    if (n === 0 || canvas.clientWidth === 0) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((v) => Math.round(v * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(1, 1, 1, 1);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl[solid ? "enable" : "disable"](gl.DEPTH_TEST);
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform.view, false, matrix());
    gl.uniform1f(uniform.size, pointSize() * ratio);
    gl.uniform1f(uniform.depth, solid ? 5 : 0);
    const part = (first, count, strength) => {
      gl.uniform1f(uniform.strength, strength);
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 4 * first);
    };
    // In three dimensions the faded come last and hide nothing, like glass.
    if (!solid) part(0, nFaded, 0.3);
    part(nFaded, n - nFaded, 1);
    if (solid && nFaded) {
      gl.depthMask(false);
      part(0, nFaded, 0.22);
    }
  };
  const refresh = () => {
    screen = null;
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => { draw(); told.moved(); });
    }
  };

  const project = (x, y, z) => {
    const m = matrix();
    const w = m[3] * x + m[7] * y + m[11] * z + m[15];
    return [
      (((m[0] * x + m[4] * y + m[8] * z + m[12]) / w + 1) / 2) * canvas.clientWidth,
      ((1 - (m[1] * x + m[5] * y + m[9] * z + m[13]) / w) / 2) * canvas.clientHeight,
      w,
    ];
  };
  const onScreen = () => {
    if (screen !== null) return screen;
    const m = matrix();
    const [xs, ys, zs] = points;
    const [halfWide, halfHigh] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    screen = new Float32Array(3 * n);
    for (let i = 0; i < n; i++) {
      const [x, y, z] = [xs[i], ys[i], solid ? zs[i] : 0];
      const w = m[3] * x + m[7] * y + m[11] * z + m[15];
      screen[3 * i] = ((m[0] * x + m[4] * y + m[8] * z + m[12]) / w + 1) * halfWide;
      screen[3 * i + 1] = (1 - (m[1] * x + m[5] * y + m[9] * z + m[13]) / w) * halfHigh;
      screen[3 * i + 2] = w;
    }
    return screen;
  };
  // The cell under the pointer: the nearest on paper, the foremost in space; -1 for none.
  const nearest = (x, y) => {
    const all = onScreen();
    const reach = Math.max(6, pointSize());
    let [best, cell] = [Infinity, -1];
    for (let i = 0; i < n; i++) {
      const [dx, dy] = [all[3 * i] - x, all[3 * i + 1] - y];
      const squared = dx * dx + dy * dy;
      if (squared > reach * reach) continue;
      const cost = solid ? all[3 * i + 2] + squared / (8 * reach * reach) : squared;
      if (cost < best) [best, cell] = [cost, i];
    }
    return cell;
  };
  // Marks the cells inside a closed line, given as x, y, x, y, ...
  const inside = (line) => {
    const all = onScreen();
    const marked = new Uint8Array(n);
    for (let i = 0; i < n; i++) {
      const [x, y] = [all[3 * i], all[3 * i + 1]];
      let odd = 0;
      for (let a = 0, b = line.length - 2; a < line.length; b = a, a += 2) {
        const [ya, yb] = [line[a + 1], line[b + 1]];
        if (ya > y !== yb > y && x < ((line[b] - line[a]) * (y - ya)) / (yb - ya) + line[a]) odd ^= 1;
      }
      marked[i] = odd;
    }
    return marked;
  };

  const change = (part) => {
    Object.assign(view, part);
    view.up = Math.max(-1.52, Math.min(1.52, view.up));
    view.zoom = Math.max(0.5, Math.min(60, view.zoom));
    refresh();
  };
  const shift = (dx, dy) => {
    const least = (0.94 * Math.min(canvas.clientWidth, canvas.clientHeight)) / 2;
    change({ x: view.x + dx / least, y: view.y - dy / least });
  };
  const turn = (dx, dy) => change({ around: view.around - dx * 0.009, up: view.up + dy * 0.009 });
  // Zoom so that what lies at (x, y) on the screen stays there.
  const zoomAt = (factor, x, y) => {
    const zoom = Math.max(0.5, Math.min(60, view.zoom * factor));
    const least = (0.94 * Math.min(canvas.clientWidth, canvas.clientHeight)) / 2;
    const [u, v] = [(x - canvas.clientWidth / 2) / least, (canvas.clientHeight / 2 - y) / least];
    const grown = zoom / view.zoom;
    change({ zoom, x: u - (u - view.x) * grown, y: v - (v - view.y) * grown });
  };

  canvas.addEventListener("webglcontextlost", told.lost);
  new ResizeObserver(refresh).observe(canvas);
  const map = {
    canvas, holder, solid, place, paint, arrange, project, nearest, inside, shift, turn, zoomAt,
    where: (cell) => project(points[0][cell], points[1][cell], solid ? points[2][cell] : 0),
    reset: () => change(start()),
  };
  handle(map, told);
  return map;
};

const furthest = ([xs, ys, zs]) => {
  let most = 0;
  xs.forEach((x, i) => { most = Math.max(most, Math.hypot(x, ys[i], zs[i])); });
  return most || 1;
};

const linked = (gl, ...sources) => {
  const program = gl.createProgram();
  [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].forEach((kind, i) => {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, sources[i]);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  });
  gl.linkProgram(program);
  return program;
};

// Pointer, wheel and keys. What is pointed at, clicked or encircled is told to the page.
const handle = (map, told) => {
  const { canvas, holder, solid } = map;
  const line = holder.querySelector("polygon");
  let drag = null;
  let far = 0; // how far the pointer went while it was last down, in pixels
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    holder.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    far = 0;
    drag = { x, y, line: told.lasso() !== event.shiftKey ? [x, y] : null };
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (drag === null) {
      told.hover(map, map.nearest(x, y), x, y);
      return;
    }
    const [dx, dy] = [x - drag.x, y - drag.y];
    far += Math.hypot(dx, dy);
    [drag.x, drag.y] = [x, y];
    if (drag.line !== null) {
      drag.line.push(x, y);
      line.setAttribute("points", drag.line.join(" "));
    } else if (solid && !event.ctrlKey) map.turn(dx, dy);
    else map.shift(dx, dy);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag === null) return;
    const { line: drawn } = drag;
    drag = null;
    line.setAttribute("points", "");
    if (far >= STILL && drawn !== null) told.encircled(map.inside(drawn));
  });
  canvas.addEventListener("click", (event) => {
    if (event.detail < 2) told.click(far < STILL ? map.nearest(...at(event)) : -1);
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
    line.setAttribute("points", "");
  });
  canvas.addEventListener("pointerleave", () => told.hover(map, -1));
  canvas.addEventListener("dblclick", () => {
    told.clickedTwice();
    map.reset();
  });
  // The page scrolls on over a map nobody has chosen yet.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== holder) return;
    event.preventDefault();
    map.zoomAt(Math.exp(-event.deltaY * 0.002), ...at(event));
  }, { passive: false });
  holder.addEventListener("keydown", (event) => {
    const move = solid ? map.turn : map.shift;
    const middle = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const act = {
      ArrowLeft: () => move(-20, 0),
      ArrowRight: () => move(20, 0),
      ArrowUp: () => move(0, -20),
      ArrowDown: () => move(0, 20),
      "+": () => map.zoomAt(1.25, ...middle),
      "=": () => map.zoomAt(1.25, ...middle),
      "-": () => map.zoomAt(0.8, ...middle),
      0: map.reset,
      Escape: told.clear,
    }[event.key];
    if (act === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
};
