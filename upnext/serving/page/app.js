// The page: one user at a time, their rows and their history, and what they do with a card.

import { getHistory, getRecommendations, getService, getUsers, postEvent } from "./api.js";
import { el } from "./dom.js";
import { clearHistory, showHistory, showHistorySkeleton } from "./history.js";
import { setUpRows, showNoRows, showRows, showRowsSkeleton } from "./rows.js";
import { setUpSwitch } from "./users.js";
import { count, didAction, milliseconds, titleOf } from "./words.js";

const ROW_LENGTH = 20;
const HISTORY_LENGTH = 50;

const byId = (id) => document.getElementById(id);
const alertBox = byId("alert");

const state = {
  user: null, // as the API gave it, or as typed until it has
  actions: [],
  isShown: false, // whether the rows on the page are this user's
};
let asked = new AbortController();

// Telling

function say(text) {
  byId("status").textContent = text;
}

function showError(error, retry = null) {
  const close = el("button", { class: "plain", type: "button", "data-testid": "alert-dismiss" }, "Dismiss");
  close.addEventListener("click", () => {
    hideError();
    // The pressed button is gone: the rows are the nearest place to go on from.
    byId("rows").focus({ preventScroll: true });
  });
  const again = retry && el("button", { class: "plain", type: "button", "data-testid": "alert-retry" }, "Try again");
  again?.addEventListener("click", () => {
    hideError();
    byId("rows").focus({ preventScroll: true });
    retry();
  });
  const kind = error.kind ? el("span", { class: "alert-kind" }, error.kind.replaceAll("_", " ")) : null;
  alertBox.replaceChildren(el("p", { class: "alert-text" }, kind, error.message || String(error)), el("span", { class: "alert-buttons" }, again, close));
  alertBox.hidden = false;
}

function hideError() {
  alertBox.hidden = true;
  alertBox.replaceChildren();
}

// Loading

async function historyOf(user, signal) {
  try {
    return await getHistory(user, HISTORY_LENGTH, signal);
  } catch (error) {
    // Someone the service has never met has no history, which is no failure.
    if (error.status === 404) return { user_id: user, events: [] };
    throw error;
  }
}

/** Reads rows and history of the user; `done` opens the status line after an action. */
async function load(done = "") {
  // Only the latest question counts: an earlier answer that comes late would show another user's rows.
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  const isReload = state.isShown;
  if (!isReload) {
    showRowsSkeleton();
    showHistorySkeleton();
    say("Loading rows…");
  }
  try {
    const [answer, history] = await Promise.all([getRecommendations(state.user, ROW_LENGTH, signal), historyOf(state.user, signal)]);
    if (signal.aborted) return;
    state.user = answer.user_id ?? state.user;
    state.isShown = true;
    const numChanged = showRows(answer.rows, state.actions, { isReload });
    showHistory(history.events, HISTORY_LENGTH, state.actions, { isSameUser: isReload });
    const took = milliseconds(answer.latency_ms);
    byId("release").textContent = answer.release;
    byId("latency").textContent = took;
    byId("user-kind").textContent = answer.is_known ? "Known user" : "New here";
    if (!isReload) say(`Rows for ${state.user} in ${took}.`);
    else say(`${done}${numChanged ? `Rows updated in ${took}.` : `Rows stayed as they were, in ${took}.`}`);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!isReload) {
      showNoRows("No rows to show.");
      clearHistory();
    }
    say(done);
    showError(error, () => load());
  }
}

function setUser(user) {
  state.user = user;
  state.isShown = false;
  hideError();
  byId("user-kind").textContent = "";
  userSwitch.set(user);
  const address = new URL(location.href);
  address.searchParams.set("user", user);
  history.replaceState(null, "", address);
  scrollTo({ top: 0 });
  return load();
}

function newVisitor() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `visitor-${100000 + (number % 900000)}`;
}

// Doing

async function act(name, { row, item }, button) {
  // Not the disabled attribute: it would take the focus away while the event is on its way.
  if (button.getAttribute("aria-disabled") === "true") return;
  const action = state.actions.find((each) => each.name === name);
  const { user } = state;
  button.setAttribute("aria-disabled", "true");
  button.classList.add("sent");
  try {
    await postEvent({ user_id: user, item_id: item.item_id, request_id: row.request_id, position: item.position, context: {}, feedback: action.feedback });
    hideError();
    // Whoever switched the user meanwhile looks at other rows now.
    if (state.user === user) await load(`${didAction(action, titleOf(item))}. `);
  } catch (error) {
    say(`Not recorded: ${action.label} "${titleOf(item)}".`);
    showError(error);
  } finally {
    button.removeAttribute("aria-disabled");
    button.classList.remove("sent");
  }
}

// Starting

const userSwitch = setUpSwitch({ onChoose: setUser, onError: (error) => showError(error) });
setUpRows({ onAction: act });
byId("new-visitor").addEventListener("click", () => setUser(newVisitor()));

async function start() {
  hideError();
  showRowsSkeleton();
  showHistorySkeleton();
  try {
    const service = await getService();
    state.actions = service.actions ?? [];
    byId("service-title").textContent = service.title;
    document.title = service.title;
    byId("release").textContent = service.release;
    byId("size").textContent = `${count(service.num_items, "item")}, ${count(service.num_users, "user")}`;
    const wanted = new URLSearchParams(location.search).get("user");
    const first = wanted || (await getUsers("", 1)).users[0]?.user_id;
    await setUser(first ?? newVisitor());
  } catch (error) {
    showNoRows("No rows to show.");
    clearHistory();
    showError(error, start);
  }
}

start();
