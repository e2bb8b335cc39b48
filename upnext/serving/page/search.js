// The search for titles: a combobox whose choice opens the title.

import { findItems } from "./api.js";
import { combobox } from "./combobox.js";
import { el } from "./dom.js";
import { tile } from "./posters.js";
import { count, kindsOf, titleOf } from "./words.js";

const LIMIT = 20;

function told(items, hasMore, text) {
  if (items.length === 0) return `No title has “${text}”.`;
  return hasMore ? `The best ${items.length} titles` : count(items.length, "title");
}

export function setUpSearch({ onChoose, onError }) {
  const box = combobox({
    name: "search",
    opening: (input) => input.value.trim(),
    async find(text, signal) {
      if (text === "") return { options: [], note: "" };
      const answer = await findItems(text, LIMIT, signal);
      return { options: answer.items, note: told(answer.items, answer.has_more, text) };
    },
    // The service knows which titles fit, accents and all: none is kept while it is asked.
    keep: () => false,
    attributes: (item) => ({ "data-testid": "search-option", "data-item": item.item_id }),
    draw: (item) => [
      tile(item),
      el("span", { class: "option-text" }, el("span", { class: "option-title", dir: "auto" }, titleOf(item)), el("span", { class: "note", dir: "auto" }, kindsOf(item))),
    ],
    onChoose,
    onEnter(text, options, pick) {
      // Enter right after typing, before the list is there, asks at once; with a list it takes the first.
      if (options.length) pick(options[0]);
      else box.ask(text);
    },
    onError,
    onClose() {},
  });
  addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, textarea, dialog");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    box.input.focus();
  });
}
