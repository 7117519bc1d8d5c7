"use strict";
// Clouds of points that turn: every element of class "points" holds a scene as JSON (points.py) and a still picture,
// which stays where this script doesn't run or fails. No library, no network; one camera moves all views of a scene.

const START = {turn: 35 * Math.PI / 180, tilt: 20 * Math.PI / 180};
const BINS = 48; // of depth: points are drawn from the farthest on
const EYE = 4; // distance of the eye, in radii of a cloud
const WAYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const SMALL = 1.6; // radius in CSS pixels
const FAINT = 0.08; // of points that the legend doesn't point at

function bytesOf(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

// A view's coordinates as [x, y, z, x, ...], float64.
function coordinatesOf(view) {
  const bytes = bytesOf(view.points);
  const words = new DataView(bytes.buffer);
  const found = new Float64Array(bytes.length / 2);
  for (let i = 0; i < found.length; i++) {
    found[i] = view.low[i % 3] + view.step * words.getUint16(2 * i, true);
  }
  return found;
}

// {middle [3], radius, most} of the points of several views: of their box, and of the ball around its middle; and how
// many the fullest has, by which all are drawn alike.
function frameOf(clouds) {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (const xyz of clouds) {
    for (let i = 0; i < xyz.length; i++) {
      low[i % 3] = Math.min(low[i % 3], xyz[i]);
      high[i % 3] = Math.max(high[i % 3], xyz[i]);
    }
  }
  const middle = low.map((l, k) => (l > high[k] ? 0 : (l + high[k]) / 2));
  let square = 0;
  for (const xyz of clouds) {
    for (let i = 0; i < xyz.length; i += 3) {
      const [x, y, z] = middle.map((m, k) => xyz[i + k] - m);
      square = Math.max(square, x * x + y * y + z * z);
    }
  }
  const most = Math.max(...clouds.map((xyz) => xyz.length / 3));
  return {middle, radius: Math.sqrt(square) || 1, most};
}

// Views ready to be drawn: coordinates around the frame's middle in its radius, a colour a point.
function viewsOf(scene) {
  const clouds = scene.views.map(coordinatesOf);
  const frames = new Map();
  scene.views.forEach((view, k) => {
    frames.set(view.frame, [...(frames.get(view.frame) || []), clouds[k]]);
  });
  for (const [frame, members] of frames) frames.set(frame, frameOf(members));
  return scene.views.map((view, k) => {
    const {middle, radius, most} = frames.get(view.frame);
    const own = new Float32Array(clouds[k].length);
    for (let i = 0; i < own.length; i++) own[i] = (clouds[k][i] - middle[i % 3]) / radius;
    const palette = view.palette || scene.palette;
    return {caption: view.caption, xyz: own, colour: bytesOf(view.colour), palette, most};
  });
}

// {x, y, depth} of every point: to the right, upwards, towards the eye; turned around z, then seen from above.
function project(xyz, camera) {
  const n = xyz.length / 3;
  const found = {x: new Float32Array(n), y: new Float32Array(n), depth: new Float32Array(n)};
  const [sinTurn, cosTurn] = [Math.sin(camera.turn), Math.cos(camera.turn)];
  const [sinTilt, cosTilt] = [Math.sin(camera.tilt), Math.cos(camera.tilt)];
  for (let i = 0; i < n; i++) {
    const [x, y, z] = [xyz[3 * i], xyz[3 * i + 1], xyz[3 * i + 2]];
    const back = x * sinTurn + y * cosTurn;
    const depth = z * sinTilt - back * cosTilt;
    const nearer = EYE / (EYE - depth);
    found.x[i] = (x * cosTurn - y * sinTurn) * nearer;
    found.y[i] = (z * cosTilt + back * sinTilt) * nearer;
    found.depth[i] = depth;
  }
  return found;
}

// Numbers of points by depth, farthest first, with where each bin begins: a counting sort, linear in the points.
function byDepth(depth) {
  const starts = new Uint32Array(BINS + 1);
  const bin = (d) => Math.max(0, Math.min(BINS - 1, Math.floor((d + 1) / 2 * BINS)));
  for (const d of depth) starts[bin(d) + 1]++;
  for (let b = 0; b < BINS; b++) starts[b + 1] += starts[b];
  const next = starts.slice();
  const order = new Uint32Array(depth.length);
  for (let i = 0; i < depth.length; i++) order[next[bin(depth[i])]++] = i;
  return {order, starts};
}

// A disc; where nobody would see that it is one, a square of its area, which is many times as fast.
function dot(context, x, y, radius, small) {
  if (small) {
    const edge = 1.77 * radius;
    context.fillRect(x - edge / 2, y - edge / 2, edge, edge);
  } else {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

function draw(canvas, view, camera, chosen) {
  const ratio = window.devicePixelRatio || 1;
  const edge = Math.round(canvas.clientWidth * ratio);
  if (!edge) return;
  if (canvas.width !== edge) canvas.width = canvas.height = edge;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, edge, edge);
  const {x, y, depth} = project(view.xyz, camera);
  const {order, starts} = byDepth(depth);
  const scale = 0.47 * edge * camera.zoom;
  const [left, top] = [edge / 2 + camera.right * edge, edge / 2 + camera.down * edge];
  const few = Math.sqrt(Math.max(60, view.most));
  const size = Math.max(1.1 * ratio, 0.19 * edge / few) * Math.sqrt(camera.zoom);
  for (let b = 0; b < BINS; b++) {
    const near = b / (BINS - 1);
    const radius = size * (0.75 + 0.5 * near);
    const small = radius < SMALL * ratio;
    for (let k = starts[b]; k < starts[b + 1]; k++) {
      const i = order[k];
      const faint = chosen >= 0 && view.colour[i] !== chosen;
      context.globalAlpha = faint ? FAINT : 0.6 + 0.4 * near;
      context.fillStyle = view.palette[view.colour[i]];
      dot(context, left + scale * x[i], top - scale * y[i], radius, small);
    }
  }
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

function button(text, label, act) {
  const made = element("button", "", text);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

// Builds canvases, legend and buttons into `place`, and hides its still picture.
function show(place) {
  const scene = JSON.parse(place.querySelector("script").textContent);
  const views = viewsOf(scene);
  const camera = {};
  let chosen = -1; // colour that the legend points at
  let waiting = false;
  const turning = element("div", "turning");
  turning.tabIndex = 0;
  turning.setAttribute("role", "group");
  turning.setAttribute("aria-roledescription", "points that turn");
  const keys = "arrow keys turn, with Shift they move, plus and minus zoom, 0 resets";
  turning.setAttribute("aria-label", `${views.length} views; ${keys}`);
  turning.style.setProperty("--columns", scene.columns[0]);
  turning.style.setProperty("--narrow", scene.columns[1]);
  const canvases = views.map((view) => {
    const cell = element("div", "view");
    const canvas = element("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${view.caption}: ${view.colour.length} points`);
    cell.append(canvas, element("p", "", view.caption));
    turning.append(cell);
    return canvas;
  });

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      canvases.forEach((canvas, k) => draw(canvas, views[k], camera, chosen));
    });
  }

  function reset() {
    const first = scene.flat ? {turn: 0, tilt: Math.PI / 2} : START;
    Object.assign(camera, first, {zoom: 1, right: 0, down: 0});
    redraw();
  }

  function turn(right, down) {
    camera.turn += right;
    camera.tilt = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, camera.tilt + down));
    redraw();
  }

  function move(right, down) {
    camera.right += right;
    camera.down += down;
    redraw();
  }

  function zoom(factor) {
    const before = camera.zoom;
    camera.zoom = Math.max(0.5, Math.min(12, before * factor));
    camera.right *= camera.zoom / before;
    camera.down *= camera.zoom / before;
    redraw();
  }

  const fingers = new Map(); // pointers that are down -> [x, y]
  turning.addEventListener("pointerdown", (event) => {
    if (event.target.tagName !== "CANVAS") return;
    turning.focus({preventScroll: true});
    event.target.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  turning.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const edge = event.target.clientWidth || 1;
    const [right, down] = [(now[0] - before[0]) / edge, (now[1] - before[1]) / edge];
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
      zoom(apart(now) / Math.max(1, apart(before)));
      move(right / 2, down / 2);
    } else if (event.shiftKey) {
      move(right, down);
    } else {
      turn(right * Math.PI, down * Math.PI);
    }
    fingers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    turning.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  // Before the views are chosen by a click or a key, the wheel scrolls the page.
  turning.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== turning) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)));
  }, {passive: false});
  turning.addEventListener("dblclick", reset);
  turning.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const way = WAYS[event.key];
    if (way && event.shiftKey) move(0.05 * way[0], 0.05 * way[1]);
    else if (way) turn(Math.PI / 24 * way[0], Math.PI / 24 * way[1]);
    else if (event.key === "+" || event.key === "=") zoom(1.2);
    else if (event.key === "-") zoom(1 / 1.2);
    else if (event.key === "0" || event.key === "Home") reset();
    else return;
    event.preventDefault();
  });

  const tools = element("div", "tools");
  const legend = element("div", "legend");
  scene.names.forEach((name, k) => {
    const one = button("", "", () => {
      chosen = chosen === k ? -1 : k;
      const press = (other, j) => other.setAttribute("aria-pressed", String(j === chosen));
      [...legend.children].forEach(press);
      redraw();
    });
    const dot = element("i", "dot");
    dot.style.background = scene.palette[k];
    one.append(dot, name);
    one.title = "shows these points alone";
    one.setAttribute("aria-pressed", "false");
    legend.append(one);
  });
  const ways = element("div", "ways");
  ways.append(
    element("span", "hint", "Drag turns, Shift and drag moves; after a click the wheel zooms"),
    button("−", "zoom out", () => zoom(1 / 1.3)),
    button("+", "zoom in", () => zoom(1.3)),
    button("reset", "", reset),
  );
  tools.append(legend, ways);
  place.append(turning, tools);
  place.querySelector(".still").hidden = true;
  new ResizeObserver(redraw).observe(turning);
  reset();
}

for (const place of document.querySelectorAll(".points")) {
  try {
    show(place);
  } catch (error) {
    for (const part of place.querySelectorAll(".turning, .tools")) part.remove();
    place.querySelector(".still").hidden = false;
    console.error(error);
  }
}
