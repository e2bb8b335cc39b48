// The first item for the user, large, above the rows.

import { el, icon } from "./dom.js";
import { recall } from "./memory.js";
import { art, paint, titleParts } from "./posters.js";
import { isStray, notePress } from "./press.js";
import { actionButton, markDone } from "./rows.js";
import { kindsOf, titleOf } from "./words.js";

const root = document.getElementById("hero");

let meant = null; // {row, item}

function build(actions) {
  const details = el("button", { class: "act wide", type: "button", "data-testid": "hero-open", "data-action": "", "aria-haspopup": "dialog" }, icon("details"), el("span", {}, "Details"));
  const [first, ...others] = actions.map((action, i) => actionButton(action, { title: "", item_id: "" }, i === 0));
  first?.classList.add("first");
  root.replaceChildren(
    el("div", { class: "hero-art" }),
    el(
      "div",
      { class: "hero-text" },
      el("p", { class: "hero-kicker" }),
      el("h2", { class: "hero-title", id: "hero-title", dir: "auto" }),
      el("p", { class: "hero-kinds", dir: "auto" }),
      el("div", { class: "acts" }, first, details, ...others),
    ),
  );
}

/** Shows the first item of the first row; without one there is none. */
export function showHero(row, { actions, known, isNew }) {
  const item = row?.items[0];
  root.hidden = !item;
  if (!item) return;
  if (!root.querySelector(".hero-text")) build(actions);
  const isSame = root.dataset.item === String(item.item_id);
  meant = { row, item };
  const title = titleOf(item);
  root.querySelector(".hero-kicker").textContent = isNew ? "A start for a new visitor" : `First ${row.name === "for-you" ? "for you" : `in ${row.title}`}`;
  for (const button of root.querySelectorAll(".acts button")) {
    const action = actions.find((each) => each.name === button.dataset.action);
    button.setAttribute("aria-label", `${button.title || "Details"}: ${title}`);
    if (action) markDone(button, recall(known, item).done.has(action.name));
  }
  if (isSame) return;
  root.dataset.item = String(item.item_id);
  paint(root, item);
  const name = root.querySelector(".hero-title");
  name.replaceChildren(...titleParts(title));
  name.dataset.size = title.length > 40 ? "s" : title.length > 20 ? "m" : "l";
  root.querySelector(".hero-kinds").textContent = kindsOf(item);
  root.querySelector(".hero-art").replaceChildren(art(item));
}

export function showHeroSkeleton() {
  root.hidden = false;
  delete root.dataset.item;
  root.replaceChildren(el("div", { class: "hero-art bone", "aria-hidden": "true" }));
}

export function hideHero() {
  root.hidden = true;
}

/** Hears the hero's buttons, as `setUpRows` does the cards'. */
export function setUpHero({ onAction, onOpen }) {
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || isStray(event)) return;
    if (button.dataset.action === "") return onOpen(meant);
    notePress(event);
    onAction(button.dataset.action, meant, button);
  });
  root.addEventListener("keydown", (event) => {
    if (event.repeat && event.key !== "Tab") event.preventDefault();
  });
}
