// The user switch: a combobox over the service's users, which also takes an id the service has never seen.

import { getUsers } from "./api.js";
import { combobox } from "./combobox.js";
import { el } from "./dom.js";
import { count } from "./words.js";

const LIMIT = 50;

export function setUpSwitch({ onChoose, onError }) {
  let current = "";

  /** The users found, and what was typed itself where it is none of them. */
  function withTyped(users, text) {
    const isNew = text !== "" && !users.some((user) => String(user.user_id) === text);
    return isNew ? [...users, { user_id: text, num_events: 0, isTyped: true }] : users;
  }

  function choose({ user_id: userId }) {
    current = String(userId);
    box.input.value = current;
    onChoose(userId);
  }

  const box = combobox({
    name: "user",
    opening: () => "", // everyone: the id already in the field is no question
    async find(text, signal) {
      const { users } = await getUsers(text, LIMIT, signal);
      return { options: withTyped(users, text), note: users.length < LIMIT ? count(users.length, "user") : `The first ${LIMIT} users` };
    },
    keep: (option, text) => !option.isTyped && String(option.user_id).toLowerCase().includes(text.toLowerCase()),
    attributes: (option) => ({ "data-testid": option.isTyped ? "user-option-typed" : "user-option", "aria-selected": String(String(option.user_id) === current) }),
    draw: (option) => [
      el("span", { class: "option-id", dir: "auto" }, String(option.user_id)),
      el("span", { class: "note" }, option.isTyped ? "as a new visitor" : count(option.num_events, "event")),
    ],
    onChoose: choose,
    onEnter(text, options, pick) {
      pick(options.find((option) => String(option.user_id) === text) ?? { user_id: text });
    },
    onError,
    onClose(input) {
      input.value = current;
    },
  });

  return {
    set(userId) {
      current = String(userId);
      if (document.activeElement !== box.input || !box.isOpen()) box.input.value = current;
    },
  };
}
