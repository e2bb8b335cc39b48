// What changed between two orders of cards, and the motion that shows it.

import { prefersStill } from "./dom.js";

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
export function movesOf(before, after) {
  const kept = new Set(after);
  const oldRank = new Map(before.filter((id) => kept.has(id)).map((id, i) => [id, i]));
  const newOrder = after.filter((id) => oldRank.has(id));
  const steady = steadyOf(newOrder.map((id) => oldRank.get(id)));
  return new Map(newOrder.map((id, i) => [id, steady.has(i) ? 0 : oldRank.get(id) - i]));
}

/** Puts the children in order while touching only those that are out of place: a moved node loses its focus. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
}

const isInView = (box) => box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight;

/** Where the cards are now; `glide` moves them from there to where they are then. */
export function measure(cards) {
  return prefersStill() ? new Map() : new Map(cards.map((card) => [card, card.getBoundingClientRect()]));
}

export function glide(before) {
  for (const [card, from] of before) {
    if (!card.isConnected) continue;
    const to = card.getBoundingClientRect();
    const dx = from.left - to.left;
    const dy = from.top - to.top;
    if ((Math.abs(dx) < 1 && Math.abs(dy) < 1) || !(isInView(from) || isInView(to))) continue;
    card.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2, .8, .2, 1)" });
  }
}
