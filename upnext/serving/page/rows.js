// The rows of cards. A reload keeps the cards that stay, so that what is new or moved can be seen to be.

import { arrange, glide, measure, movesOf } from "./changes.js";
import { el, icon, prefersStill } from "./dom.js";
import { recall } from "./memory.js";
import { poster } from "./posters.js";
import { isStray, noteMove, notePress } from "./press.js";
import { kindsOf, nameOf, percent, titleOf } from "./words.js";

const root = document.getElementById("rows");
const list = document.getElementById("row-list");

const MOST_ROWS = 12;

// What each card on the page stands for: {row, item}.
const meaning = new WeakMap();

// Counts the sections made, for ids: a row's name may hold letters that an id must not.
let numSections = 0;
let isWhole = false; // whether more rows than the first were asked for

const cardsOf = (section) => [...section.querySelectorAll(".card")];
const allCards = () => [...list.querySelectorAll(".card")];
const sections = () => [...list.querySelectorAll(".row")];
const buttonsOf = (card) => [...card.querySelectorAll("button")];
const keyOf = (row) => `${row.isOwn ? "own" : "served"}:${row.name}`;

// Building

/** A round button for an action: its icon, or its name where it has none. */
export function actionButton(action, item, isWide = false) {
  const drawn = icon(action.hides ? "dislike" : action.name);
  const name = nameOf(action);
  return el(
    "button",
    { class: isWide || !drawn ? "act wide" : "act", type: "button", "data-testid": `action-${action.name}`, "data-action": action.name, "aria-label": `${name}: ${titleOf(item)}`, title: name },
    drawn,
    isWide || !drawn ? el("span", {}, name) : null,
  );
}

function newCard(row, item, actions) {
  const title = titleOf(item);
  const kinds = kindsOf(item);
  const quick = actions.filter((action) => icon(action.hides ? "dislike" : action.name)).slice(0, 3);
  const picture = poster(item);
  picture.append(el("span", { class: "tag" }));
  const card = el(
    "li",
    { class: "card", "data-testid": row.isOwn ? "card-own" : "card", "data-item": item.item_id },
    el(
      "div",
      { class: "frame" },
      picture,
      el("button", { class: "open", type: "button", "data-testid": "open", "data-action": "", "aria-label": `Details: ${title}`, "aria-haspopup": "dialog" }),
      el("span", { class: "part", hidden: true }, el("span", { class: "part-bar" }), el("span", { class: "unseen part-text" })),
      el("div", { class: "quick" }, ...quick.map((action) => actionButton(action, item))),
    ),
    el("p", { class: "kinds", dir: "auto" }, kinds || "\u00a0"),
  );
  for (const button of buttonsOf(card)) button.tabIndex = -1;
  return card;
}

function newSection(row) {
  numSections += 1;
  const id = `row-title-${numSections}`;
  const section = el(
    "section",
    { class: "row", "data-testid": row.isOwn ? "row-own" : "row", "data-row": row.name, "data-key": keyOf(row), tabindex: "-1", "aria-labelledby": id },
    el("div", { class: "row-head" }, el("h2", { class: "row-title", id, dir: "auto" }), el("p", { class: "note row-reason" }), el("p", { class: "row-change" })),
    el(
      "div",
      { class: "strip" },
      el("ul", { class: "cards", role: "list", "aria-describedby": "keys-help" }),
      // The arrow keys and a swipe do the same, so these stay out of the way of the Tab key.
      ...[["-1", "back"], ["1", "on"]].map(([way, word]) => el("button", { class: `page ${word}`, type: "button", tabindex: "-1", "data-testid": `scroll-${word}`, "data-way": way, "data-word": word }, icon(word))),
    ),
  );
  section.querySelector(".cards").addEventListener("scroll", () => markEnds(section), { passive: true });
  return section;
}

function markEnds(section) {
  const strip = section.querySelector(".cards");
  const [back, on] = section.querySelectorAll(".page");
  back.disabled = strip.scrollLeft <= 2;
  on.disabled = strip.scrollLeft >= strip.scrollWidth - strip.clientWidth - 2;
}

function tell(card, change) {
  const tag = card.querySelector(".tag");
  delete card.dataset.change;
  tag.textContent = "";
  if (change === "new") {
    card.dataset.change = "new";
    tag.textContent = "New";
  } else if (change) {
    card.dataset.change = change > 0 ? "up" : "down";
    tag.textContent = `${change > 0 ? "↑" : "↓"} ${Math.abs(change)}`;
  }
}

/** Shows what the user already did with a card's item. */
function recollect(card, item, known) {
  const { part, done } = recall(known, item);
  const bar = card.querySelector(".part");
  bar.hidden = part === null;
  bar.querySelector(".part-bar").style.setProperty("--part", String(part ?? 0));
  bar.querySelector(".part-text").textContent = part === null ? "" : `${percent(part)} played`;
  for (const button of card.querySelectorAll(".act")) markDone(button, done.has(button.dataset.action));
}

/** Marks an action as taken: pressing it again would say the same again. */
export function markDone(button, isDone) {
  button.classList.toggle("done", isDone);
  if (isDone) button.setAttribute("aria-pressed", "true");
  else button.removeAttribute("aria-pressed");
}

function updateSection(section, row, { actions, known, marks }) {
  const old = new Map(cardsOf(section).map((card) => [card.dataset.item, card]));
  const ids = row.items.map((item) => String(item.item_id));
  const moves = movesOf([...old.keys()], ids);
  let numNew = 0;
  let numMoved = 0;
  const cards = row.items.map((item, i) => {
    const kept = old.get(ids[i]);
    const card = kept ?? newCard(row, item, actions);
    meaning.set(card, { row, item });
    recollect(card, item, known);
    const change = !marks || row.isOwn ? 0 : kept ? moves.get(ids[i]) : "new";
    tell(card, change);
    if (change === "new") numNew += 1;
    else if (change) numMoved += 1;
    return card;
  });
  section.querySelector(".row-title").textContent = row.title;
  section.querySelector(".row-reason").textContent = row.reason ?? "";
  for (const page of section.querySelectorAll(".page")) page.setAttribute("aria-label", `Scroll ${row.title} ${page.dataset.word}`);
  const isChanged = numNew + numMoved > 0 || (marks && cards.length !== old.size);
  section.querySelector(".row-change").textContent = [numNew && `${numNew} new`, numMoved && `${numMoved} moved`].filter(Boolean).join(", ");
  section.dataset.changed = String(isChanged);
  arrange(section.querySelector(".cards"), cards);
  return isChanged;
}

// Focus

function setCurrent(section, current) {
  for (const card of cardsOf(section)) for (const button of buttonsOf(card)) button.tabIndex = card === current ? 0 : -1;
}

const isCurrent = (card) => buttonsOf(card).some((button) => button.tabIndex === 0);

/** Where the focus is among the cards, for `restoreFocus` after they changed; null if it is elsewhere. */
export function noteFocus() {
  const held = document.activeElement;
  const section = held?.closest?.(".row");
  if (!section || !list.contains(held)) return null;
  const card = held.closest(".card");
  return { held, key: section.dataset.key, rowIndex: sections().indexOf(section), item: card?.dataset.item, index: card ? cardsOf(section).indexOf(card) : -1, action: held.dataset.action };
}

/** Where the focus goes when a reload moved or took the card it was on: the same button, else the card in its place. */
export function restoreFocus(note) {
  if (!note || document.activeElement === note.held) return;
  // Someone who meanwhile went elsewhere is not called back.
  if (document.activeElement && document.activeElement !== document.body) return;
  const all = sections();
  const section = all.find((each) => each.dataset.key === note.key) ?? all[Math.min(note.rowIndex, all.length - 1)];
  const cards = section ? cardsOf(section) : [];
  const same = cards.find((each) => each.dataset.item === note.item);
  const next = note.index >= 0 ? cards[Math.min(note.index, cards.length - 1)] : undefined;
  // On another card the focus goes to its details: whoever presses twice must not act on what they did not choose.
  const target = same?.querySelector(`[data-action="${CSS.escape(note.action ?? "")}"]`) ?? (same ?? next)?.querySelector(".open") ?? section ?? root;
  target.focus({ preventScroll: true });
  if (target.matches(":focus-visible")) target.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// What the page calls

/**
 * Shows the rows; returns how many of them changed.
 *
 * `isReload` keeps the cards that stay; `marks` also says on them what is new and what moved.
 */
export function showRows(rows, { actions, known, isReload, marks = isReload }) {
  const note = noteFocus();
  const boxes = isReload ? measure(allCards()) : new Map();
  const old = new Map(isReload ? sections().map((section) => [section.dataset.key, section]) : []);
  if (!isReload) isWhole = false;
  const filled = rows.filter((row) => row.items.length > 0);
  const shown = isWhole ? filled : filled.slice(0, MOST_ROWS);
  let numChanged = 0;
  const next = shown.map((row) => {
    const kept = old.get(keyOf(row));
    const section = kept ?? newSection(row);
    section.classList.toggle("arrived", isReload && !kept);
    if (updateSection(section, row, { actions, known, marks: marks && Boolean(kept) }) || (isReload && !kept && !row.isOwn)) numChanged += 1;
    return section;
  });
  const wereInOrder = [...old.keys()].join("\n") === shown.map(keyOf).join("\n");
  if (isReload && !wereInOrder && numChanged === 0) numChanged = 1;
  arrange(list, next.length ? next : [el("p", { class: "empty" }, "The service has no rows for this user.")]);
  if (filled.length > shown.length) list.append(moreButton(filled.length - shown.length, rows, { actions, known }));
  for (const section of next) {
    setCurrent(section, cardsOf(section).find(isCurrent) ?? cardsOf(section)[0]);
    markEnds(section);
  }
  restoreFocus(note);
  glide(boxes);
  noteMove();
  root.setAttribute("aria-busy", "false");
  return numChanged;
}

function moreButton(numMore, rows, how) {
  const button = el("button", { class: "plain more", type: "button", "data-testid": "more-rows" }, `Show ${numMore} more ${numMore === 1 ? "row" : "rows"}`);
  button.addEventListener("click", () => {
    isWhole = true;
    const first = sections().length;
    showRows(rows, { ...how, isReload: true, marks: false });
    sections()[first]?.focus({ preventScroll: true });
  });
  return button;
}

export function showRowsSkeleton() {
  const bones = (n) => Array.from({ length: n }, () => el("li", { class: "card" }, el("div", { class: "poster bone" }), el("p", { class: "bone line" })));
  root.setAttribute("aria-busy", "true");
  list.replaceChildren(
    ...[0, 1, 2].map(() => el("div", { class: "skeleton", "aria-hidden": "true" }, el("div", { class: "row-head" }, el("span", { class: "bone line head" })), el("ul", { class: "cards" }, ...bones(12)))),
  );
}

export function showNoRows(message) {
  root.setAttribute("aria-busy", "false");
  list.replaceChildren(el("p", { class: "empty" }, message));
}

function step(event) {
  const button = event.target.closest(".card button");
  if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
  const card = button.closest(".card");
  const section = card.closest(".row");
  const cards = cardsOf(section);
  const index = cards.indexOf(card);
  const all = sections();
  const rowBy = (n) => all[all.indexOf(section) + n];
  const firstIn = (row) => row && (cardsOf(row).find(isCurrent) ?? cardsOf(row)[0]);
  const to = { ArrowRight: () => cards[index + 1], ArrowLeft: () => cards[index - 1], Home: () => cards[0], End: () => cards.at(-1), ArrowDown: () => firstIn(rowBy(1)), ArrowUp: () => firstIn(rowBy(-1)) }[event.key];
  if (!to) return;
  event.preventDefault();
  const next = to();
  if (!next) return;
  const target = next.querySelector(`[data-action="${CSS.escape(button.dataset.action)}"]`) ?? next.querySelector(".open");
  target.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest", inline: "nearest", behavior: prefersStill() ? "auto" : "smooth" });
}

/** Hears the cards: `onAction(actionName, {row, item}, button)` and `onOpen({row, item})`. */
export function setUpRows({ onAction, onOpen }) {
  list.addEventListener("click", (event) => {
    const page = event.target.closest(".page");
    if (page) {
      const strip = page.closest(".row").querySelector(".cards");
      strip.scrollBy({ left: Number(page.dataset.way) * strip.clientWidth * 0.85, behavior: prefersStill() ? "auto" : "smooth" });
      return;
    }
    const button = event.target.closest(".card button");
    if (!button || isStray(event)) return;
    const meant = meaning.get(button.closest(".card"));
    if (button.matches(".open")) return onOpen(meant);
    notePress(event);
    onAction(button.dataset.action, meant, button);
  });
  // One card of each row is in the Tab order, the arrow keys reach the rest: else a page is hundreds of stops long.
  list.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) setCurrent(card.closest(".row"), card);
  });
  list.addEventListener("keydown", (event) => {
    // A key held down must not act again and again.
    if (event.repeat && (event.key === "Enter" || event.key === " ") && event.target.closest(".act")) event.preventDefault();
    else step(event);
  });
  addEventListener("resize", () => sections().forEach(markEnds));
}
