"use strict";
// What a reader turns: every element of class "scene" holds a scene as JSON (scenes.py) and a still picture, which
// stays where no script runs or one fails. A kind of scene draws itself; camera, keys, pointers and buttons are these.

const SHOW = {}; // kind of a scene -> function(place, scene) that builds it into its place
const START = {turn: 35 * Math.PI / 180, tilt: 20 * Math.PI / 180};
const WAYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

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

// A group of views that one camera moves: {turning, ways (its buttons), camera, redraw, reset}. The camera is turned
// around z, then seen from above by `tilt`; `right` and `down` are in widths of a view. `draw` is called at most once
// a frame, and only while a reader sees it. `words` say to a screen reader what is there.
function turnable(words, columns, start, draw) {
  const camera = {...start, zoom: 1, right: 0, down: 0};
  const turning = element("div", "turning");
  let waiting = false;
  let seen = false; // by the reader: what is off the screen isn't drawn
  turning.tabIndex = 0;
  turning.setAttribute("role", "group");
  turning.setAttribute("aria-roledescription", "a picture that turns");
  const keys = "arrow keys turn, with Shift they move, plus and minus zoom, 0 resets";
  turning.setAttribute("aria-label", `${words}; ${keys}`);
  turning.style.setProperty("--columns", columns[0]);
  turning.style.setProperty("--narrow", columns[1]);

  function redraw() {
    if (waiting || !seen) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function reset() {
    Object.assign(camera, start, {zoom: 1, right: 0, down: 0});
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

  new ResizeObserver(redraw).observe(turning);
  new IntersectionObserver((entries) => {
    seen = entries[entries.length - 1].isIntersecting;
    redraw();
  }).observe(turning);

  const ways = element("div", "ways");
  ways.append(
    element("span", "hint", "Drag turns, Shift and drag moves; after a click the wheel zooms"),
    button("−", "zoom out", () => zoom(1 / 1.3)),
    button("+", "zoom in", () => zoom(1.3)),
    button("reset", "", reset),
  );
  return {turning, ways, camera, redraw, reset};
}

// One of a legend: a dot of a colour before a name.
function dotted(made, colour, name) {
  const dot = element("i", "dot");
  dot.style.background = colour;
  made.append(dot, name);
  return made;
}

// Its still picture is hidden only once the scene stands.
function showScene(place) {
  try {
    const scene = JSON.parse(place.querySelector("script").textContent);
    SHOW[scene.kind || "points"](place, scene); // runs of before there were kinds hold points
    place.querySelector(".still").hidden = true;
  } catch (error) {
    for (const part of place.querySelectorAll(".turning, .tools")) part.remove();
    place.querySelector(".still").hidden = false;
    console.error(error);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".scene")) showScene(place);
});
