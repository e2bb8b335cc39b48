// A text field with a list of what it finds, by the keys and the roles of the ARIA combobox pattern.

import { el } from "./dom.js";

const PAUSE_MS = 120;

/**
 * Makes a field of the page such a combobox.
 *
 * `name` is the field's id; its list is `name`-list, in `name`-options, with `name`-note for the count.
 * `find(text, signal)` gives `{options, note}`; `keep(option, text)` says which options of the last answer still fit
 * while the next is under way; `draw(option)` gives an option's children; `attributes(option)` its attributes.
 * `opening(input)` is what a click or an arrow key asks for while the list is closed.
 * `onChoose(option)` hears of a choice, `onEnter(text)` of Enter without one.
 */
export function combobox({ name, opening, find, keep, draw, attributes, onChoose, onEnter, onError, onClose }) {
  const input = document.getElementById(name);
  const panel = document.getElementById(`${name}-options`);
  const list = document.getElementById(`${name}-list`);
  const note = document.getElementById(`${name}-note`);
  let options = [];
  let active = -1;
  let timer = 0;
  let asked = new AbortController();

  const isOpen = () => !panel.hidden;

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

  function show(next, text) {
    options = next;
    list.replaceChildren(
      ...options.map((option, i) => {
        const node = el("li", { class: "option", id: `${name}-option-${i}`, role: "option", "aria-selected": "false", ...attributes(option) }, ...draw(option));
        node.addEventListener("click", () => choose(option));
        return node;
      }),
    );
    list.hidden = options.length === 0;
    setActive(-1);
    if (note.textContent !== text) note.textContent = text;
    panel.hidden = options.length === 0 && text === "";
    input.setAttribute("aria-expanded", String(isOpen() && options.length > 0));
  }

  async function ask(text) {
    clearTimeout(timer);
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    try {
      const answer = await find(text, signal);
      if (!signal.aborted) show(answer.options, answer.note);
    } catch (error) {
      if (error.name !== "AbortError") onError(error, () => ask(text));
    }
  }

  function close() {
    clearTimeout(timer);
    asked.abort();
    panel.hidden = true;
    input.setAttribute("aria-expanded", "false");
    setActive(-1);
  }

  function choose(option) {
    close();
    // On a touch screen the keyboard would stay and cover the page.
    if (matchMedia("(hover: none)").matches) input.blur();
    onChoose(option);
  }

  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => {
    if (!isOpen()) ask(opening(input));
  });
  input.addEventListener("input", () => {
    const text = input.value.trim();
    // Options that cannot fit go at once, so that a quick click or Enter never picks one of an older question.
    show(options.filter((option) => keep(option, text)), "");
    clearTimeout(timer);
    timer = setTimeout(() => ask(text), PAUSE_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (!isOpen()) ask(opening(input));
      else if (options.length) setActive((Math.max(active, step > 0 ? -1 : 0) + step + options.length) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (isOpen() && active >= 0) choose(options[active]);
      else if (input.value.trim() !== "") onEnter(input.value.trim(), options, choose);
    } else if (event.key === "Escape") {
      close();
      onClose(input);
      input.select();
    }
  });
  // Pressing on the list must not take the focus, or the list would close before the click arrives.
  for (const kind of ["pointerdown", "mousedown"]) panel.addEventListener(kind, (event) => event.preventDefault());
  input.addEventListener("blur", () => {
    close();
    onClose(input);
  });
  return { input, isOpen, ask };
}
