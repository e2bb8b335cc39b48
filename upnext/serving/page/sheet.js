// The dialog of one item: what it is, why it was shown, a player, the actions, and what is like it.

import { ApiError, getItem, getSimilar } from "./api.js";
import { el, icon } from "./dom.js";
import { recall } from "./memory.js";
import { createPlayer } from "./player.js";
import { art, paint, poster, titleParts } from "./posters.js";
import { actionButton, markDone, noteFocus, restoreFocus } from "./rows.js";
import { kindsOf, nameOf, percent, titleOf } from "./words.js";

const NUM_SIMILAR = 12;
const ALMOST_ALL = 0.98;

const sheet = document.getElementById("sheet");

let shown = null; // {row, item, action, player, posted} of the open item
let from = null; // where the focus was among the cards
let heard = null; // the page's callbacks
let asked = new AbortController();

const thousandths = (part) => Math.round(part * 1000) / 1000;
const inSheet = (selector) => sheet.querySelector(selector);

/** Why an item is on the page, in a sentence. */
function why({ row, item, near }) {
  if (near) return `Near “${titleOf(near)}” by the angle between their vectors${Number.isFinite(item.score) ? ` (cosine ${item.score.toFixed(2)})` : ""}.`;
  if (row?.isOwn) return "You began it and did not finish.";
  if (!row) return "You searched for it.";
  const score = Number.isFinite(item.score) ? `, score ${item.score.toPrecision(4)}` : "";
  const like = item.because ? `Like “${titleOf(item.because)}”, which you chose. ` : "";
  return `${like}Number ${item.position + 1} in “${row.title}”${score}. ${row.reason ?? ""}`;
}

function playerControls() {
  return el(
    "div",
    { class: "player", role: "group", "aria-label": "Player", "data-testid": "player", hidden: true },
    el("div", { class: "track", role: "progressbar", "aria-label": "Part played", "aria-valuemin": "0", "aria-valuemax": "100", "data-testid": "progress" }, el("span", { class: "part-bar" })),
    el(
      "div",
      { class: "player-line" },
      el("span", { class: "player-part", "data-testid": "player-part" }),
      el("span", { class: "note" }, "Simulated"),
      el("button", { class: "plain", type: "button", "data-testid": "player-speed" }),
      el("button", { class: "plain", type: "button", "data-testid": "player-stop" }, icon("stop"), el("span", {}, "Stop")),
    ),
  );
}

function drawPlayer({ part, isPlaying, speed }) {
  const title = titleOf(shown.item);
  const button = inSheet(".play");
  button.replaceChildren(icon(isPlaying ? "pause" : "play"), el("span", {}, isPlaying ? "Pause" : part > 0 ? "Resume" : nameOf(shown.action)));
  button.setAttribute("aria-label", `${isPlaying ? "Pause" : part > 0 ? "Resume" : nameOf(shown.action)}: ${title}`);
  const track = inSheet(".track");
  track.setAttribute("aria-valuenow", String(Math.round(part * 100)));
  track.setAttribute("aria-valuetext", `${percent(part)} played`);
  track.firstElementChild.style.setProperty("--part", String(part));
  inSheet(".player-part").textContent = percent(part);
  const tempo = inSheet('[data-testid="player-speed"]');
  tempo.textContent = `${speed}×`;
  tempo.setAttribute("aria-label", `Speed ${speed}`);
}

/** Tells the page how far the open item was played since the last time it was told. */
function settle() {
  if (!shown?.player) return;
  const { player, action, posted, row, item } = shown;
  if (player.state.isPlaying) player.pause();
  const part = thousandths(player.state.part);
  if (part === posted || part === 0) return;
  shown.posted = part;
  heard.onPlayed(action, part, { row, item });
}

function togglePlay() {
  const { player } = shown;
  inSheet(".player").hidden = false;
  if (player.state.isPlaying) player.pause();
  else {
    if (player.state.part === 1) player.state.part = 0;
    player.play();
  }
}

function onClick(event) {
  if (event.target === sheet) return sheet.close(); // the backdrop
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".close")) sheet.close();
  else if (button.matches(".play")) togglePlay();
  else if (button.dataset.testid === "player-speed") shown.player.nextSpeed();
  else if (button.dataset.testid === "player-stop") {
    settle();
    inSheet(".player").hidden = true;
    inSheet(".play").focus();
  } else if (button.matches(".act")) heard.onAction(button.dataset.action, shown, button);
}

/** Opens the dialog of an item; with `isPlaying` its player starts at once. */
export function openSheet({ row = null, item, near = null }, { isPlaying = false } = {}) {
  const { actions, known } = heard.memory();
  settle();
  asked.abort();
  asked = new AbortController();
  if (!sheet.open) from = noteFocus();
  const action = actions.find((each) => each.part_played) ?? null;
  const { part, done } = recall(known, item);
  const begun = part !== null && part < ALMOST_ALL ? part : 0;
  shown = { row, item, action, player: null, posted: thousandths(begun) };
  const buttons = actions.map((each, i) => {
    const button = actionButton(each, item, i === 0 || actions.length < 5);
    markDone(button, done.has(each.name));
    if (each === action) button.classList.add("play");
    if (i === 0) button.classList.add("first");
    return button;
  });
  const banner = el("div", { class: "banner" }, art(item), el("h2", { class: "sheet-title", id: "sheet-title", dir: "auto", tabindex: "-1", "data-testid": "dialog-title" }, ...titleParts(titleOf(item))));
  paint(banner, item);
  sheet.replaceChildren(
    el(
      "div",
      { class: "sheet-body" },
      banner,
      el("button", { class: "tool close", type: "button", "data-testid": "dialog-close", "aria-label": "Close" }, icon("close")),
      el(
        "div",
        { class: "sheet-main" },
        el("div", { class: "acts" }, ...buttons),
        action && playerControls(),
        el("p", { class: "sheet-status", role: "status", "data-testid": "dialog-status" }),
        el("p", { class: "sheet-kinds", dir: "auto" }, [...(item.genres ?? []), item.collection].filter(Boolean).join(" · ")),
        el("p", { class: "note", "data-testid": "why" }, why({ row, item, near })),
        el("div", { class: "similar" }),
      ),
    ),
  );
  if (action) shown.player = createPlayer({ from: begun, onChange: drawPlayer, onEnd: () => { drawPlayer(shown.player.state); settle(); } });
  if (action) drawPlayer(shown.player.state);
  if (!sheet.open) sheet.showModal();
  sheet.scrollTop = 0;
  if (isPlaying && action) {
    togglePlay();
    inSheet(".play").focus();
  } else {
    inSheet(".sheet-title").focus();
  }
  showSimilar(item, asked.signal);
}

async function showSimilar(item, signal) {
  const place = inSheet(".similar");
  try {
    // Asked first: not every release has vectors, nor every item one.
    const { has_similar: hasSimilar } = await getItem(item.item_id, signal);
    const near = hasSimilar ? (await getSimilar(item.item_id, NUM_SIMILAR, signal)).similar : [];
    if (signal.aborted || near.length === 0) return;
    const cards = near.map((one) => {
      const button = el("button", { class: "open", type: "button", "data-testid": "similar-open", "data-item": one.item_id, "aria-label": `Details: ${titleOf(one)}` });
      button.addEventListener("click", () => openSheet({ item: one, near: item }));
      return el("li", { class: "card" }, el("div", { class: "frame" }, poster(one, "p"), button), el("p", { class: "kinds", dir: "auto" }, kindsOf(one)));
    });
    place.replaceChildren(el("h3", {}, "More like this"), el("ul", { class: "cards", role: "list" }, ...cards));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    place.replaceChildren(el("p", { class: "note" }, error.message));
  }
}

/** Shows in the open dialog what is known of its item by now. */
export function updateSheet() {
  if (!shown) return;
  const { done } = recall(heard.memory().known, shown.item);
  for (const button of sheet.querySelectorAll(".act")) markDone(button, done.has(button.dataset.action));
}

export function closeSheet() {
  sheet.close();
}

/** Says in the dialog what the page says below it, which nobody hears or sees while the dialog is open. */
export function sayInSheet(text) {
  if (sheet.open) inSheet(".sheet-status").textContent = text;
}

/**
 * Hears the dialog: `onAction(actionName, {row, item}, button)` and `onPlayed(action, part, {row, item})`.
 * `memory()` gives the actions and what is known of the user now.
 */
export function setUpSheet({ onAction, onPlayed, memory }) {
  heard = { onAction, onPlayed, memory };
  sheet.addEventListener("click", onClick);
  sheet.addEventListener("close", () => {
    settle();
    asked.abort();
    shown = null;
    sheet.replaceChildren();
    restoreFocus(from);
  });
  addEventListener("pagehide", settle);
}
