// What the user did, most recent first, in a panel beside the rows.

import { el } from "./dom.js";
import { tile } from "./posters.js";
import { ago, count, describe, titleOf } from "./words.js";

const panel = document.getElementById("history");
const toggle = document.getElementById("history-toggle");
const list = document.getElementById("history-list");
const empty = document.getElementById("history-empty");
const total = document.getElementById("history-count");

let shown = new Set();

const keyOf = (event) => JSON.stringify([event.item.item_id, event.time_ms, event.feedback]);

function line(event, actions, isFresh) {
  const title = titleOf(event.item);
  const when = new Date(event.time_ms);
  const dot = event.is_live ? el("span", { class: "dot", role: "img", "aria-label": "Since this release:", title: "Since this release" }) : null;
  const player = actions.find((action) => action.part_played);
  const part = player ? event.feedback[player.part_played] : undefined;
  const bar = part > 0 ? el("span", { class: "part", "aria-hidden": "true" }, el("span", { class: "part-bar" })) : null;
  bar?.firstElementChild.style.setProperty("--part", String(part));
  return el(
    "li",
    { class: "event", "data-testid": "history-item", "data-item": event.item.item_id, "data-live": event.is_live, "data-fresh": isFresh },
    tile(event.item),
    el(
      "div",
      { class: "event-text" },
      el("p", { class: "event-title", dir: "auto", title }, title),
      el(
        "p",
        { class: "event-did" },
        dot,
        el("span", { class: "event-what" }, describe(event.feedback, actions)),
        el("time", { datetime: Number.isNaN(when.getTime()) ? null : when.toISOString() }, ago(event.time_ms)),
      ),
      bar,
    ),
  );
}

export function showHistory(events, limit, actions, { isSameUser }) {
  const keys = events.map(keyOf);
  list.replaceChildren(...events.map((event, i) => line(event, actions, isSameUser && !shown.has(keys[i]))));
  list.hidden = events.length === 0;
  empty.hidden = events.length > 0;
  total.textContent = events.length === 0 ? "" : events.length < limit ? count(events.length, "event") : `last ${limit} events`;
  shown = new Set(keys);
  if (!isSameUser || events.some((event) => event.is_live)) list.scrollTo({ top: 0 });
}

export function showHistorySkeleton() {
  list.replaceChildren(
    ...Array.from({ length: 6 }, () =>
      el("li", { class: "event", "aria-hidden": "true" }, el("span", { class: "tile bone" }), el("div", { class: "event-text" }, el("p", { class: "bone line" }), el("p", { class: "bone line short" }))),
    ),
  );
  list.hidden = false;
  empty.hidden = true;
  total.textContent = "";
}

export function clearHistory() {
  list.replaceChildren();
  list.hidden = true;
  total.textContent = "";
  shown = new Set();
}

function open(isOpen) {
  panel.hidden = !isOpen;
  toggle.setAttribute("aria-expanded", String(isOpen));
}

export function setUpHistory() {
  const close = () => {
    open(false);
    toggle.focus({ preventScroll: true });
  };
  toggle.addEventListener("click", () => {
    open(panel.hidden);
    if (!panel.hidden) list.focus({ preventScroll: true });
  });
  document.getElementById("history-close").addEventListener("click", close);
  panel.addEventListener("keydown", (event) => event.key === "Escape" && close());
}
