"use strict";
// Clouds of points, drawn on canvases without a library; one camera moves all views of a scene (points.py).

const BINS = 48; // of depth: points are drawn from the farthest on
const EYE = 4; // distance of the eye, in radii of a cloud
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

// Builds canvases, legend and buttons into `place`.
SHOW.points = (place, scene) => {
  const views = viewsOf(scene);
  let chosen = -1; // colour that the legend points at
  const start = scene.flat ? {turn: 0, tilt: Math.PI / 2} : START;
  const words = `${views.length} views`;
  const {turning, ways, camera, redraw} = turnable(words, scene.columns, start, () => {
    canvases.forEach((canvas, k) => draw(canvas, views[k], camera, chosen));
  });
  const canvases = views.map((view) => {
    const cell = element("div", "view");
    const canvas = element("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${view.caption}: ${view.colour.length} points`);
    cell.append(canvas, element("p", "", view.caption));
    turning.append(cell);
    return canvas;
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
    one.title = "shows these points alone";
    one.setAttribute("aria-pressed", "false");
    legend.append(dotted(one, scene.palette[k], name));
  });
  tools.append(legend, ways);
  place.append(turning, tools);
};
