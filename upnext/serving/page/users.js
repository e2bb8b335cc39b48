// The user switch: a combobox over the service's users, which also takes an id the service has never seen.

import { getUsers } from "./api.js";
import { el } from "./dom.js";
import { count } from "./words.js";

const LIMIT = 50;
const PAUSE_MS = 120;

export function setUpSwitch({ onChoose, onError }) {
  const input = document.getElementById("user");
  const list = document.getElementById("user-list");
  let current = "";
  let options = [];
  let active = -1;
  let timer = 0;
  let asked = new AbortController();

  const isOpen = () => !list.hidden;

  function setActive(index) {
    active = index;
    [...list.children].forEach((node, i) => node.classList.toggle("active", i === index));
    const node = list.children[index];
    if (node) {
      input.setAttribute("aria-activedescendant", node.id);
      node.scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  }

  function show(next) {
    options = next;
    list.replaceChildren(
      ...options.map((option, i) => {
        const isCurrent = String(option.user_id) === current;
        const node = el(
          "li",
          { class: "option", id: `user-option-${i}`, role: "option", "aria-selected": isCurrent ? "true" : "false", "data-testid": option.isTyped ? "user-option-typed" : "user-option" },
          el("span", { class: "option-id", dir: "auto" }, String(option.user_id)),
          el("span", { class: "note" }, option.isTyped ? "as a new visitor" : count(option.num_events, "event")),
        );
        node.addEventListener("click", () => choose(options[i].user_id));
        return node;
      }),
    );
    setActive(-1);
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(isOpen()));
  }

  /** The users found, and what was typed itself where it is none of them. */
  function withTyped(users, typed) {
    const isNew = typed !== "" && !users.some((user) => String(user.user_id) === typed);
    return isNew ? [...users, { user_id: typed, num_events: 0, isTyped: true }] : users;
  }

  async function ask(search) {
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    try {
      const { users } = await getUsers(search, LIMIT, signal);
      if (!signal.aborted) show(withTyped(users, search));
    } catch (error) {
      if (error.name !== "AbortError") onError(error);
    }
  }

  function close() {
    clearTimeout(timer);
    asked.abort();
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  }

  function choose(userId) {
    close();
    current = String(userId);
    input.value = current;
    // On a touch screen the keyboard would stay and cover the rows.
    if (matchMedia("(hover: none)").matches) input.blur();
    onChoose(userId);
  }

  // Opening offers everyone: the id already in the field is no search.
  function open() {
    if (!isOpen()) ask("");
  }

  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", open);
  input.addEventListener("input", () => {
    const typed = input.value.trim();
    // Options that cannot match go at once, so that a quick click or Enter never picks one of an older search.
    show(withTyped(options.filter((option) => !option.isTyped && String(option.user_id).toLowerCase().includes(typed.toLowerCase())), typed));
    clearTimeout(timer);
    timer = setTimeout(() => ask(typed), PAUSE_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen()) return open();
      const step = event.key === "ArrowDown" ? 1 : -1;
      setActive((Math.max(active, step > 0 ? -1 : 0) + step + options.length) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const typed = input.value.trim();
      const exact = options.find((option) => String(option.user_id) === typed);
      if (isOpen() && active >= 0) choose(options[active].user_id);
      else if (typed !== "") choose(exact ? exact.user_id : typed);
    } else if (event.key === "Escape") {
      close();
      input.value = current;
      input.select();
    }
  });
  // Pressing on the list must not take the focus, or the list would close before the click arrives.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  list.addEventListener("mousedown", (event) => event.preventDefault());
  input.addEventListener("blur", () => {
    close();
    input.value = current;
  });

  return {
    set(userId) {
      current = String(userId);
      if (document.activeElement !== input || !isOpen()) input.value = current;
    },
  };
}
