"use strict";
// Balls joined by sticks, in boxes (balls.py). A scene's sheets are shown one at a time; a view with several steps shows
// them one after another. One viewer of 3Dmol.js ($3Dmol) draws every view of a page, since each of its viewers compiles
// shaders of its own: the views of a sheet stand far apart in its space, and what it sees of one is copied to its canvas.

const RADIUS = 10; // of a frame, as 3Dmol gets it: its fog, planes and field of view fit to that
const FIELD = 10 * Math.PI / 180; // half of 3Dmol's field of view
const AWAY = 1.06 * RADIUS / Math.tan(FIELD); // of the eye, at zoom 1
const CAMERA = 150; // where 3Dmol's camera stands on its z axis
const SLAB = [-16, 26]; // planes between which things are drawn, from the frame's middle towards the far side
const APART = 1000; // of the views of a sheet in the viewer's space, so that no two are seen at once
const EDGES = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]];
const PLAYING = 350; // milliseconds a step

// The quaternion [x, y, z, w] that turns around z by `turn`, then around x so far that one looks from above by `tilt`.
function quaternionOf({turn, tilt}) {
  const lean = tilt - Math.PI / 2;
  const [s, c] = [Math.sin(lean / 2), Math.cos(lean / 2)];
  const [sz, cz] = [Math.sin(turn / 2), Math.cos(turn / 2)];
  return [s * cz, -s * sz, c * sz, c * cz];
}

// What 3Dmol's setView takes for view number k: its place, the distance, how all is turned, and how it is moved.
function seenBy(camera, k) {
  const away = AWAY / camera.zoom;
  const width = 2 * away * Math.tan(FIELD);
  const moved = [camera.right * width, -camera.down * width];
  return [-k * APART, 0, 0, CAMERA - away, ...quaternionOf(camera), ...moved];
}

// The eight corners of a box [origin, a, b, c], numbered by the bits of (c, b, a).
function cornersOf(box) {
  return [0, 1, 2, 3, 4, 5, 6, 7].map((corner) => {
    const edges = [corner & 1, corner >> 1 & 1, corner >> 2];
    return [0, 1, 2].map((k) => box[k] + edges.reduce((sum, on, e) => sum + on * box[3 + 3 * e + k], 0));
  });
}

// {x, y, z} of a place in the viewer's space, for view number k of a frame.
function inSpace([x, y, z], {middle, radius}, k) {
  const scale = RADIUS / radius;
  return {x: (x - middle[0]) * scale + k * APART, y: (y - middle[1]) * scale, z: (z - middle[2]) * scale};
}

// A step's balls and sticks as 3Dmol takes atoms and their bonds.
function atomsOf(step, scene, frame, k) {
  const scale = RADIUS / frame.radius;
  const atoms = step.kind.map((kind, i) => ({
    elem: "X",
    ...inSpace(step.places.slice(3 * i, 3 * i + 3), frame, k),
    bonds: [],
    bondOrder: [],
    style: {
      sphere: {radius: scene.kinds[kind].radius * scale, color: scene.kinds[kind].colour},
      stick: {radius: scene.stick * scale, color: scene.kinds[kind].colour},
    },
  }));
  for (let m = 0; m < step.sticks.length; m += 2) {
    const [i, j] = [step.sticks[m], step.sticks[m + 1]];
    for (const [one, other] of [[i, j], [j, i]]) {
      atoms[one].bonds.push(other);
      atoms[one].bondOrder.push(1);
    }
  }
  return atoms;
}

// The one viewer, its hidden place of the size of a view, and what is in its space now.
const SPACE = {place: null, viewer: null, sheet: null, step: 0, paper: ""};

// Puts the views of one sheet at one step into the viewer's space, where they aren't there already.
function fill(scene, sheet, step, paper) {
  if (SPACE.sheet === sheet && SPACE.step === step && SPACE.paper === paper) return;
  if (!SPACE.viewer) {
    SPACE.place = element("div", "space");
    document.body.append(SPACE.place);
    SPACE.viewer = $3Dmol.createViewer(SPACE.place, {nomouse: true, backgroundColor: paper});
    SPACE.viewer.setSlab(...SLAB);
  }
  SPACE.viewer.removeAllModels();
  SPACE.viewer.removeAllShapes();
  SPACE.viewer.setBackgroundColor(paper);
  sheet.views.forEach((view, k) => {
    const now = stepOf(view, step);
    SPACE.viewer.addModel().addAtoms(atomsOf(now, scene, view.frame, k));
    if (!now.box) return;
    const corners = cornersOf(now.box).map((corner) => inSpace(corner, view.frame, k));
    for (const [i, j] of EDGES) {
      const edge = {start: corners[i], end: corners[j], radius: 0.05, color: scene.edge};
      SPACE.viewer.addCylinder(edge);
    }
  });
  SPACE.viewer.render();
  Object.assign(SPACE, {sheet, step, paper});
}

// What a view shows at a step: one that has fewer stays at its last.
function stepOf(view, step) {
  return view.steps[Math.min(step, view.steps.length - 1)];
}

// What the camera sees of view number k, in its canvas.
function copy(canvas, camera, k) {
  const width = canvas.clientWidth;
  if (!width) return;
  if (SPACE.place.clientWidth !== width) {
    SPACE.place.style.width = SPACE.place.style.height = `${width}px`;
    SPACE.viewer.resize();
  }
  SPACE.viewer.setView(seenBy(camera, k));
  const seen = SPACE.place.querySelector("canvas");
  if (canvas.width !== seen.width) canvas.width = canvas.height = seen.width;
  canvas.getContext("2d").drawImage(seen, 0, 0);
}

// Buttons that choose one of several names; none where there is but one.
function choices(names, choose) {
  const made = element("div", "legend");
  if (names.length < 2) return made;
  names.forEach((name, k) => {
    const one = button(name, "", () => {
      [...made.children].forEach((other, j) => other.setAttribute("aria-pressed", String(j === k)));
      choose(k);
    });
    one.setAttribute("aria-pressed", String(k === 0));
    made.append(one);
  });
  return made;
}

// Builds canvases, legend, sheets and steps into `place`.
SHOW.balls = (place, scene) => {
  const most = Math.max(...scene.sheets.map((sheet) => sheet.views.length));
  let [sheet, step, playing] = [scene.sheets[0], 0, 0];
  const words = `${scene.sheets.length} sheets of at most ${most} views`;
  const paper = () => getComputedStyle(place.closest("figure")).backgroundColor;
  const {turning, ways, camera, redraw} = turnable(words, sheet.columns, START, () => {
    fill(scene, sheet, step, paper());
    sheet.views.forEach((_, k) => copy(cells[k].canvas, camera, k));
  });
  const cells = Array.from({length: most}, () => {
    const cell = element("div", "view");
    const canvas = element("canvas");
    const caption = element("p");
    canvas.setAttribute("role", "img");
    cell.append(canvas, caption);
    turning.append(cell);
    return {cell, canvas, caption};
  });

  const slider = element("input");
  slider.type = "range";
  slider.min = 0;
  slider.setAttribute("aria-label", "step");
  const play = button("play", "", () => {
    if (playing) {
      stop();
      return;
    }
    play.textContent = "stop";
    if (step >= slider.max) step = -1;
    playing = setInterval(() => go(step + 1), PLAYING);
  });

  function stop() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "play";
  }

  function go(to) {
    step = Math.min(to, Number(slider.max));
    slider.value = step;
    if (step >= slider.max) stop();
    sheet.views.forEach((view, k) => {
      const now = stepOf(view, step);
      const text = [view.caption, now.caption].filter(Boolean).join(": ");
      cells[k].caption.textContent = text;
      cells[k].canvas.setAttribute("aria-label", `${text}: ${now.kind.length} balls`);
    });
    redraw();
  }

  slider.addEventListener("input", () => {
    stop();
    go(Number(slider.value));
  });
  const film = element("div", "legend");
  film.append(play, slider);

  function choose(k) {
    sheet = scene.sheets[k];
    cells.forEach(({cell}, place) => {
      cell.hidden = place >= sheet.views.length;
    });
    turning.style.setProperty("--columns", sheet.columns[0]);
    turning.style.setProperty("--narrow", sheet.columns[1]);
    slider.max = Math.max(...sheet.views.map((view) => view.steps.length)) - 1;
    film.hidden = slider.max === "0";
    const used = new Set(sheet.views.flatMap((view) => view.steps.flatMap((one) => one.kind)));
    const named = scene.kinds.filter((kind, place) => kind.name && used.has(place));
    legend.replaceChildren(...named.map((kind) => dotted(element("span"), kind.colour, kind.name)));
    stop();
    go(film.hidden ? 0 : Number(slider.max));
  }

  const legend = element("div", "legend");
  const tools = element("div", "tools");
  tools.append(choices(scene.sheets.map((one) => one.name), choose), film, ways);
  place.append(turning, tools, legend);
  choose(0);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
};
