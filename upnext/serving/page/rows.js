// The rows of cards. A reload keeps the cards that stay, so that what is new or moved can be seen to be.

import { el, icon, prefersStill } from "./dom.js";
import { poster } from "./posters.js";
import { titleOf } from "./words.js";

const root = document.getElementById("rows");

// What each card on the page stands for: {row, item}.
const meaning = new WeakMap();

// Counts the sections made, for ids: a row's name may hold letters that an id must not.
let numSections = 0;

const cardsOf = (section) => [...section.querySelectorAll(".card")];
const sections = () => [...root.querySelectorAll(".row")];
const buttonsOf = (card) => [...card.querySelectorAll(".act")];

// Building

function actionButton(action, item, isFirst) {
  const drawn = icon(action.name);
  const children = [drawn, isFirst || !drawn ? el("span", {}, action.label) : null];
  return el(
    "button",
    { class: isFirst ? "act main" : "act", type: "button", "data-testid": `action-${action.name}`, "data-action": action.name, "aria-label": `${action.label} ${titleOf(item)}`, title: action.label, tabindex: "-1" },
    ...children,
  );
}

function newCard(item, actions) {
  const picture = poster(item);
  picture.append(el("span", { class: "tag" }));
  return el(
    "li",
    { class: "card", "data-testid": "card", "data-item": item.item_id },
    picture,
    el("p", { class: "genres" }, (item.genres ?? []).join(" · ") || item.collection || "\u00a0"),
    el("div", { class: "acts" }, ...actions.map((action, i) => actionButton(action, item, i === 0))),
  );
}

function newSection(name) {
  numSections += 1;
  const id = `row-title-${numSections}`;
  const section = el(
    "section",
    { class: "row", "data-testid": "row", "data-row": name, tabindex: "-1", "aria-labelledby": id },
    el(
      "div",
      { class: "row-head" },
      el("h2", { class: "row-title", id, dir: "auto" }),
      el("p", { class: "note row-reason" }),
      el("p", { class: "row-change" }),
      // The arrow keys and a swipe do the same, so these stay out of the way of the Tab key.
      el("span", { class: "pages" }, ...[["-1", "back", "‹"], ["1", "on", "›"]].map(([way, word, sign]) => el("button", { class: "page", type: "button", tabindex: "-1", "data-way": way, "data-word": word }, sign))),
    ),
    el("ul", { class: "cards", role: "list", "aria-describedby": "keys-help" }),
  );
  section.querySelector(".cards").addEventListener("scroll", () => markEnds(section), { passive: true });
  return section;
}

function markEnds(section) {
  const strip = section.querySelector(".cards");
  const [back, on] = section.querySelectorAll(".page");
  back.disabled = strip.scrollLeft <= 2;
  on.disabled = strip.scrollLeft >= strip.scrollWidth - strip.clientWidth - 2;
  section.classList.toggle("more-on", !on.disabled);
}

// Comparing

/** The longest run of items that kept their order: what is not in it moved past the others, rather than being pushed. */
function steadyOf(ranks) {
  const best = ranks.map(() => ({ length: 1, previous: -1 }));
  let last = ranks.length ? 0 : -1;
  for (let i = 0; i < ranks.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      if (ranks[j] < ranks[i] && best[j].length + 1 > best[i].length) best[i] = { length: best[j].length + 1, previous: j };
    }
    if (best[i].length > best[last].length) last = i;
  }
  const steady = new Set();
  for (let i = last; i >= 0; i = best[i].previous) steady.add(i);
  return steady;
}

/** How far each kept item rose (+) or fell (-), counted among those kept, so that a card that left is no move of others. */
function movesOf(before, after) {
  const kept = new Set(after);
  const oldRank = new Map(before.filter((id) => kept.has(id)).map((id, i) => [id, i]));
  const newOrder = after.filter((id) => oldRank.has(id));
  const steady = steadyOf(newOrder.map((id) => oldRank.get(id)));
  return new Map(newOrder.map((id, i) => [id, steady.has(i) ? 0 : oldRank.get(id) - i]));
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

/** Puts the children in order while touching only those that are out of place: a moved node loses its focus. */
function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
}

function updateSection(section, row, actions, isReload) {
  const strip = section.querySelector(".cards");
  const old = new Map(cardsOf(section).map((card) => [card.dataset.item, card]));
  const ids = row.items.map((item) => String(item.item_id));
  const moves = movesOf([...old.keys()], ids);
  let numNew = 0;
  let numMoved = 0;
  const cards = row.items.map((item, i) => {
    const kept = old.get(ids[i]);
    const card = kept ?? newCard(item, actions);
    meaning.set(card, { row, item });
    const rank = `${i + 1}${Number.isFinite(item.score) ? `, score ${item.score.toPrecision(4)}` : ""}`;
    card.querySelector(".poster").title = `${titleOf(item)}\n${row.title}: number ${rank}`;
    const change = !isReload ? 0 : kept ? moves.get(ids[i]) : "new";
    tell(card, change);
    if (change === "new") numNew += 1;
    else if (change) numMoved += 1;
    return card;
  });
  section.querySelector(".row-title").textContent = row.title;
  section.querySelector(".row-reason").textContent = row.reason ?? "";
  for (const page of section.querySelectorAll(".page")) page.setAttribute("aria-label", `Scroll ${row.title} ${page.dataset.word}`);
  const isChanged = numNew + numMoved > 0 || (isReload && cards.length !== old.size);
  section.querySelector(".row-change").textContent = [numNew && `${numNew} new`, numMoved && `${numMoved} moved`].filter(Boolean).join(", ");
  section.dataset.changed = String(isChanged);
  arrange(strip, cards);
  return isChanged;
}

// Focus

function setCurrent(section, current) {
  for (const card of cardsOf(section)) for (const button of buttonsOf(card)) button.tabIndex = card === current ? 0 : -1;
}

function noteFocus() {
  const held = document.activeElement;
  const section = held?.closest?.(".row");
  if (!section || !root.contains(held)) return null;
  const card = held.closest(".card");
  return { held, row: section.dataset.row, rowIndex: sections().indexOf(section), item: card?.dataset.item, index: card ? cardsOf(section).indexOf(card) : -1, action: held.dataset.action };
}

/** Where the focus goes when a reload moved or took the card it was on: the same card, else the one in its place. */
function restoreFocus(note) {
  if (!note || document.activeElement === note.held) return;
  // Someone who meanwhile went elsewhere is not called back.
  if (document.activeElement && document.activeElement !== document.body) return;
  const all = sections();
  const section = all.find((each) => each.dataset.row === note.row) ?? all[Math.min(note.rowIndex, all.length - 1)];
  const cards = section ? cardsOf(section) : [];
  const card = cards.find((each) => each.dataset.item === note.item) ?? (note.index >= 0 ? cards[Math.min(note.index, cards.length - 1)] : undefined);
  const target = card?.querySelector(`[data-action="${CSS.escape(note.action ?? "")}"]`) ?? (card && buttonsOf(card)[0]) ?? section ?? root;
  target.focus({ preventScroll: true });
  if (target.matches(":focus-visible")) target.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// Motion

const isInView = (box) => box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight;

function measure() {
  return new Map([...root.querySelectorAll(".card")].map((card) => [card, card.getBoundingClientRect()]));
}

function glide(before) {
  for (const [card, from] of before) {
    if (!card.isConnected) continue;
    const to = card.getBoundingClientRect();
    const dx = from.left - to.left;
    const dy = from.top - to.top;
    if ((Math.abs(dx) < 1 && Math.abs(dy) < 1) || !(isInView(from) || isInView(to))) continue;
    card.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2, .8, .2, 1)" });
  }
}

// What the page calls

/** Shows the rows, marking what changed where `isReload`; returns how many rows changed. */
export function showRows(rows, actions, { isReload }) {
  const filled = rows.filter((row) => row.items.length > 0);
  const note = noteFocus();
  const boxes = isReload && !prefersStill() ? measure() : new Map();
  const old = new Map(isReload ? sections().map((section) => [section.dataset.row, section]) : []);
  let numChanged = 0;
  const next = filled.map((row) => {
    const kept = old.get(row.name);
    const section = kept ?? newSection(row.name);
    section.classList.toggle("arrived", isReload && !kept);
    if (updateSection(section, row, actions, isReload && Boolean(kept)) || (isReload && !kept)) numChanged += 1;
    return section;
  });
  const wereInOrder = [...old.keys()].join("\n") === filled.map((row) => row.name).join("\n");
  if (isReload && !wereInOrder && numChanged === 0) numChanged = 1;
  arrange(root, next.length ? next : [el("p", { class: "empty" }, "The service has no rows for this user.")]);
  for (const section of next) {
    const cards = cardsOf(section);
    const current = cards.find((card) => buttonsOf(card).some((button) => button.tabIndex === 0));
    setCurrent(section, current ?? cards[0]);
    markEnds(section);
  }
  restoreFocus(note);
  glide(boxes);
  root.setAttribute("aria-busy", "false");
  return numChanged;
}

export function showRowsSkeleton() {
  const bones = (n) => Array.from({ length: n }, () => el("li", { class: "card" }, el("div", { class: "poster bone" }), el("p", { class: "bone line" }), el("p", { class: "bone line acts" })));
  root.setAttribute("aria-busy", "true");
  root.replaceChildren(
    ...[0, 1, 2].map(() => el("div", { class: "skeleton", "aria-hidden": "true" }, el("div", { class: "row-head" }, el("span", { class: "bone line head" })), el("ul", { class: "cards" }, ...bones(9)))),
  );
}

export function showNoRows(message) {
  root.setAttribute("aria-busy", "false");
  root.replaceChildren(el("p", { class: "empty" }, message));
}

function step(event) {
  const button = event.target.closest(".act");
  if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
  const card = button.closest(".card");
  const section = card.closest(".row");
  const cards = cardsOf(section);
  const index = cards.indexOf(card);
  const all = sections();
  const rowBy = (n) => all[all.indexOf(section) + n];
  const firstIn = (row) => row && (cardsOf(row).find((each) => buttonsOf(each).some((one) => one.tabIndex === 0)) ?? cardsOf(row)[0]);
  const to = { ArrowRight: () => cards[index + 1], ArrowLeft: () => cards[index - 1], Home: () => cards[0], End: () => cards.at(-1), ArrowDown: () => firstIn(rowBy(1)), ArrowUp: () => firstIn(rowBy(-1)) }[event.key];
  if (!to) return;
  event.preventDefault();
  const next = to();
  if (!next) return;
  const target = next.querySelector(`[data-action="${CSS.escape(button.dataset.action)}"]`) ?? buttonsOf(next)[0];
  target.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest", inline: "nearest", behavior: prefersStill() ? "auto" : "smooth" });
}

/** Hears the cards: `onAction(actionName, {row, item}, button)` for a pressed action. */
export function setUpRows({ onAction }) {
  root.addEventListener("click", (event) => {
    const page = event.target.closest(".page");
    if (page) {
      const strip = page.closest(".row").querySelector(".cards");
      strip.scrollBy({ left: Number(page.dataset.way) * strip.clientWidth * 0.85, behavior: prefersStill() ? "auto" : "smooth" });
      return;
    }
    const button = event.target.closest(".act");
    if (button) onAction(button.dataset.action, meaning.get(button.closest(".card")), button);
  });
  // One card of each row is in the Tab order, the arrow keys reach the rest: else a page is hundreds of stops long.
  root.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) setCurrent(card.closest(".row"), card);
  });
  root.addEventListener("keydown", step);
  addEventListener("resize", () => sections().forEach(markEnds));
}
