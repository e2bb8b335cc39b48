// Elements are built node by node and strings become text nodes, so a title that holds markup is only ever text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const THUMB = "M7 10.5v9H4v-9zM7 10.5 11 3c1.5 0 2.4 1.1 2.1 2.6L12.4 9H19a1.6 1.6 0 0 1 1.6 2l-1.7 7a2 2 0 0 1-2 1.5H7z";
const ICONS = {
  play: { d: "M7 4.5v15l12.5-7.5z", solid: true },
  watch: { d: "M7 4.5v15l12.5-7.5z", solid: true },
  like: { d: THUMB },
  dislike: { d: THUMB, turned: true },
  save: { d: "M6.5 3.5h11v17L12 16l-5.5 4.5z" },
  add: { d: "M12 5v14M5 12h14" },
  skip: { d: "M5 5v14l9-7zM18 5v14" },
  hide: { d: "M6 6l12 12M18 6 6 18" },
  pause: { d: "M8 5v14M16 5v14", wide: true },
  stop: { d: "M6.5 6.5h11v11h-11z", solid: true },
  close: { d: "M6 6l12 12M18 6 6 18" },
  details: { d: "M12 11v6M12 7.2v.3M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z" },
  back: { d: "M14.5 5 8 12l6.5 7" },
  on: { d: "M9.5 5 16 12l-6.5 7" },
};

/** The icon of an action the page knows by name, or null: the caller then writes the action's label. */
export function icon(name) {
  const shape = Object.hasOwn(ICONS, name) ? ICONS[name] : null;
  if (!shape) return null;
  const path = svg("path", { d: shape.d, transform: shape.turned ? "rotate(180 12 12)" : null });
  return svg("svg", { viewBox: "0 0 24 24", class: shape.solid ? "icon solid" : shape.wide ? "icon wide" : "icon", "aria-hidden": "true", focusable: "false" }, path);
}

export const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
