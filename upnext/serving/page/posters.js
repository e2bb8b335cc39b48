// Posters drawn from a title and its genres alone: the genre gives the hue, the title the motif and the type.
// The same item always gets the same poster, so that it is recognised when it moves to another row.

import { el, svg } from "./dom.js";
import { titleOf } from "./words.js";

// Hues people expect of a genre; any other name gets one from its letters.
const HUES = {
  action: 35, adventure: 150, animation: 195, children: 100, "children's": 100, comedy: 80, crime: 255,
  documentary: 175, drama: 320, fantasy: 290, "film-noir": 265, horror: 20, musical: 345, music: 345, mystery: 275,
  romance: 5, "sci-fi": 240, thriller: 220, war: 120, western: 55,
};

function hash(text) {
  let h = 2166136261;
  for (const letter of text) h = Math.imul(h ^ letter.codePointAt(0), 16777619);
  // The last letters alone would else decide the low bits.
  h = Math.imul(h ^ (h >>> 15), 2246822507);
  return (h ^ (h >>> 13)) >>> 0;
}

function hueOf(genre) {
  const name = genre.toLowerCase();
  return Object.hasOwn(HUES, name) ? HUES[name] : hash(name) % 360;
}

function randomFrom(seed) {
  let state = seed || 1;
  return (low, high) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return low + (state / 4294967296) * (high - low);
  };
}

const round = (x) => Math.round(x * 10) / 10;
const circle = (cx, cy, r, cls) => svg("circle", { cx: round(cx), cy: round(cy), r: round(r), class: cls });
const path = (d, cls) => svg("path", { d, class: cls });

// Each motif fills a 120 x 160 sheet with the classes a (soft), b (stronger), c (the second hue) and l (a line).
const MOTIFS = [
  function sun(r) {
    const x = r(30, 90), y = r(40, 66), size = r(22, 36), land = r(92, 112);
    return [circle(x, y, size * 1.6, "a"), circle(x, y, size, "c"), path(`M0 ${round(land)}h120v70H0z`, "b"), path(`M0 ${round(land + 16)}h120v60H0z`, "a")];
  },
  function ripples(r) {
    const x = r(0, 1) < 0.5 ? r(-5, 20) : r(100, 125), y = r(0, 30);
    return [26, 48, 70, 92, 114, 136].map((size, i) => circle(x, y, size, i === 0 ? "c" : "l"));
  },
  function beams(r) {
    const lean = r(30, 70), shapes = [];
    for (let x = -70 + r(0, 20), i = 0; x < 130; i += 1) {
      const wide = r(8, 22);
      shapes.push(path(`M${round(x)} 160L${round(x + lean)} 0h${round(wide)}L${round(x + wide)} 160z`, i % 3 === 1 ? "c" : "a"));
      x += wide + r(8, 18);
    }
    return shapes;
  },
  function bubbles(r) {
    return ["a", "c", "a", "b"].map((cls) => circle(r(10, 110), r(8, 100), r(16, 44), cls));
  },
  function peaks(r) {
    const ridge = (base, high, cls) => {
      let d = `M-5 160V${round(base)}`;
      for (let x = 8; x < 140; x += 26) d += `L${x} ${round(base - r(0.2, 1) * high)}L${x + 13} ${round(base - r(0, 0.3) * high)}`;
      return path(`${d}V160z`, cls);
    };
    return [circle(r(24, 96), r(26, 44), r(10, 17), "c"), ridge(92, 44, "a"), ridge(118, 40, "b")];
  },
  function halftone(r) {
    const cx = r(20, 100), cy = r(10, 70), dots = [];
    for (let y = 6; y < 160; y += 12) {
      for (let x = 6; x < 120; x += 12) {
        const size = 5.6 - Math.hypot(x - cx, y - cy) / 17;
        if (size > 0.7) dots.push(circle(x, y, size, (x + y) % 36 === 0 ? "c" : "a"));
      }
    }
    return dots;
  },
  function skyline(r) {
    const shapes = [circle(r(25, 95), r(28, 48), r(12, 20), "c")];
    for (const [cls, base] of [["a", 52], ["b", 84]]) {
      for (let x = -4; x < 120;) {
        const wide = r(10, 24);
        shapes.push(path(`M${round(x)} 160V${round(base + r(0, 42))}h${round(wide)}V160z`, cls));
        x += wide + r(0, 3);
      }
    }
    return shapes;
  },
  function rings(r) {
    const x = r(20, 100), y = r(34, 70), wide = r(9, 15);
    return [0, 1, 2, 3, 4].map((i) => circle(x, y, 96 - i * wide - i * 4, ["a", "b", "a", "b", "c"][i]));
  },
  function arches(r) {
    const shapes = [];
    for (const [cls, wide] of [["a", 112], ["b", 78], ["a", 46], ["c", 20]]) {
      const left = round(60 - wide / 2), top = round(96 - wide * 0.62 + r(-6, 6));
      shapes.push(path(`M${left} 160V${top}a${wide / 2} ${wide / 2} 0 0 1 ${wide} 0V160z`, cls));
    }
    return shapes;
  },
  function shards(r) {
    return ["a", "b", "c", "a"].map((cls) => {
      const x = r(-10, 90), y = r(-10, 70);
      return path(`M${round(x)} ${round(y)}L${round(x + r(30, 80))} ${round(y + r(-20, 30))}L${round(x + r(-10, 40))} ${round(y + r(50, 110))}z`, cls);
    });
  },
  function stairs(r) {
    const up = r(0, 1) < 0.5, steps = Math.floor(r(4, 7)), wide = 120 / steps, shapes = [];
    for (let i = 0; i < steps; i += 1) {
      const n = up ? i : steps - 1 - i, top = round(112 - n * r(12, 15));
      shapes.push(path(`M${round(i * wide)} 160V${top}h${round(wide + 0.4)}V160z`, i % 2 ? "a" : "b"));
    }
    return [circle(up ? r(22, 40) : r(80, 98), r(26, 40), r(11, 17), "c"), ...shapes];
  },
  function waves(r) {
    const start = r(30, 50), high = r(9, 20);
    return [0, 1, 2, 3].map((i) => {
      const y = round(start + i * 28), h = round(high * (i % 2 ? -1 : 1));
      return path(`M0 ${y}q30 ${-h} 60 0t60 0V160H0z`, i === 1 ? "c" : "a");
    });
  },
];

const YEAR = /\s*\(\d{4}\)\s*$/;

const TONES = ["deep", "deep", "mid", "duo", "pale"];
const FACES = ["sans", "serif", "sans", "narrow", "serif", "wide"];

const seedOf = (item) => hash(`${titleOf(item)}\n${item.item_id}`);

/** Gives a node the colours of an item; returns the seed of all that its letters decide. */
export function paint(node, item) {
  const genres = item.genres ?? [];
  const seed = seedOf(item);
  const first = hueOf(genres[0] ?? item.collection ?? titleOf(item));
  // Two genres meet in one poster; a single one gets a second hue that the title chooses.
  const second = genres.length > 1 ? hueOf(genres[1]) : first + [45, 150, -60, 205][(seed >>> 3) % 4];
  node.style.setProperty("--hue", String((first + (seed % 31) - 15 + 360) % 360));
  node.style.setProperty("--hue2", String((second + 360) % 360));
  node.dataset.tone = TONES[(seed >>> 5) % TONES.length];
  return seed;
}

function size(title) {
  const longestWord = Math.max(...title.split(/[\s-]+/).map((word) => word.length));
  if (title.length > 46 || longestWord > 13) return "xs";
  if (title.length > 26 || longestWord > 10) return "s";
  if (title.length > 12 || longestWord > 7) return "m";
  return "l";
}

/** The title with its year, if it ends in one, set apart: together they still read as the whole title. */
export function titleParts(title) {
  const year = YEAR.exec(title);
  return year && year.index > 0 ? [title.slice(0, year.index), el("span", { class: "year" }, year[0])] : [title];
}

/** The picture alone, to fill what it is put into. */
export function art(item) {
  const seed = seedOf(item);
  const draw = MOTIFS[(seed >>> 13) % MOTIFS.length];
  return svg("svg", { class: "art", viewBox: "0 0 120 160", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true", focusable: "false" }, ...draw(randomFrom(seed)));
}

/** A poster; its title is the heading `tag`, or plain text. */
export function poster(item, tag = "h3") {
  const title = titleOf(item);
  const node = el("div", { class: "poster" });
  const seed = paint(node, item);
  node.dataset.face = FACES[(seed >>> 9) % FACES.length];
  const parts = titleParts(title);
  node.append(art(item), el(tag, { class: "poster-title", dir: "auto", "data-size": size(parts[0]) }, ...parts));
  return node;
}

/** A small tile with the title's initials, for places where a whole poster does not fit. */
export function tile(item) {
  const words = titleOf(item).replace(YEAR, "").match(/[\p{L}\p{N}]+/gu) ?? ["?"];
  const initials = words.filter((word) => !/^(the|a|an|of|and)$/i.test(word)).concat(words).slice(0, Math.min(2, words.length));
  const node = el("span", { class: "tile", "aria-hidden": "true" }, initials.map((word) => [...word][0].toUpperCase()).join(""));
  paint(node, item);
  return node;
}
