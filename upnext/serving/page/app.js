// The page: one user at a time, their rows and their history, and what they do with an item.

import { getHistory, getRecommendations, getService, getUsers, postEvent } from "./api.js";
import { el } from "./dom.js";
import { hideHero, setUpHero, showHero, showHeroSkeleton } from "./hero.js";
import { clearHistory, setUpHistory, showHistory, showHistorySkeleton } from "./history.js";
import { remember, unfinished } from "./memory.js";
import { setUpRows, showNoRows, showRows, showRowsSkeleton } from "./rows.js";
import { setUpSearch } from "./search.js";
import { closeSheet, openSheet, sayInSheet, setUpSheet, updateSheet } from "./sheet.js";
import { setUpTheme } from "./theme.js";
import { setUpSwitch } from "./users.js";
import { count, didAction, milliseconds, nameOf, percent, titleOf } from "./words.js";

const ROW_LENGTH = 20;
const HISTORY_LENGTH = 50;
const MOST_UNFINISHED = 12;
const STATUS_MS = 6000;

const byId = (id) => document.getElementById(id);
const alertBox = byId("alert");

const state = {
  user: null, // as the API gave it, or as typed until it has
  actions: [],
  release: null, // the service may swap another one in
  context: {}, // of what the page asks and posts
  known: new Map(), // what the user did with each item
  rows: [],
  isNew: false,
  isShown: false, // whether the rows on the page are this user's
};
let asked = new AbortController();
let fading = 0;

// Telling

/** Tells everybody, or, where the page shows it well enough, only those who hear it. */
function say(text, isQuiet = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("quiet", isQuiet);
  status.classList.remove("past");
  clearTimeout(fading);
  fading = setTimeout(() => status.classList.add("past"), STATUS_MS);
  sayInSheet(text);
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
  sayInSheet(error.message || String(error));
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

/** The service's rows, and after the first one what the user began. */
function withUnfinished(rows, events) {
  const items = unfinished(events, state.actions, state.known, MOST_UNFINISHED);
  const own = { name: "unfinished", title: "Continue", reason: "Begun and not finished", items, isOwn: true };
  return items.length ? [...rows.slice(0, 1), own, ...rows.slice(1)] : rows;
}

function draw(marks) {
  const { rows, actions, known, isShown } = state;
  showHero(rows[0], { actions, known, isNew: state.isNew });
  updateSheet();
  return showRows(rows, { actions, known, isReload: isShown, marks });
}

/** Reads rows and history of the user; `done` opens the status line after an action. */
async function load(done = "") {
  // Only the latest question counts: an earlier answer that comes late would show another user's rows.
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  const isReload = state.isShown;
  if (!isReload) {
    showHeroSkeleton();
    showRowsSkeleton();
    showHistorySkeleton();
    say("Loading rows…", true);
  }
  try {
    const [answer, history] = await Promise.all([getRecommendations(state.user, ROW_LENGTH, state.context, signal), historyOf(state.user, signal)]);
    if (signal.aborted) return;
    if (answer.release !== state.release) showService(await getService()); // another one was swapped in
    if (signal.aborted) return;
    state.user = answer.user_id ?? state.user;
    state.known = remember(history.events, state.actions);
    state.rows = withUnfinished(answer.rows, history.events);
    state.isNew = !answer.is_known;
    const numChanged = draw(isReload);
    state.isShown = true;
    showHistory(history.events, HISTORY_LENGTH, state.actions, { isSameUser: isReload });
    const took = milliseconds(answer.latency_ms);
    byId("latency").textContent = took;
    byId("user-kind").textContent = answer.is_known ? "Known user" : "New here";
    if (!isReload) say(`Rows for ${state.user} in ${took}.`, true);
    else say(`${done}${numChanged ? `Rows updated in ${took}.` : `Rows stayed as they were, in ${took}.`}`);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!isReload) {
      hideHero();
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

/** Posts what was done with an item, then shows what that changed; says whether the service took it. */
async function record(action, feedback, { row, item }, done) {
  const { user } = state;
  const served = row?.request_id === undefined ? {} : { request_id: row.request_id, position: item.position };
  try {
    await postEvent({ user_id: user, item_id: item.item_id, ...served, context: state.context, feedback });
  } catch (error) {
    say(`Not recorded: ${nameOf(action)} "${titleOf(item)}".`);
    showError(error);
    return false;
  }
  hideError();
  // Whoever switched the user meanwhile looks at other rows now.
  if (state.user === user) await load(`${done}. `);
  return true;
}

async function act(name, meant, button) {
  // Not the disabled attribute: it would take the focus away while the event is on its way.
  if (button.getAttribute("aria-disabled") === "true" || button.getAttribute("aria-pressed") === "true") return;
  const action = state.actions.find((each) => each.name === name);
  if (action.part_played) return openSheet(meant, { isPlaying: true });
  button.setAttribute("aria-disabled", "true");
  button.classList.add("sent");
  const { user, rows } = state;
  if (action.hides) {
    // It goes at once; the service's answer fills the gaps.
    closeSheet();
    state.rows = rows.map((row) => ({ ...row, items: row.items.filter((item) => item.item_id !== meant.item.item_id) }));
    draw(false);
  }
  const isRecorded = await record(action, action.feedback, meant, didAction(action, titleOf(meant.item)));
  if (!isRecorded && action.hides && state.user === user) {
    state.rows = rows;
    draw(false);
  }
  button.removeAttribute("aria-disabled");
  button.classList.remove("sent");
}

function played(action, part, meant) {
  const verb = didAction(action, titleOf(meant.item));
  return record(action, { ...action.feedback, [action.part_played]: part }, meant, `${verb}, ${percent(part)}`);
}

// Starting

const userSwitch = setUpSwitch({ onChoose: setUser, onError: showError });
setUpTheme();
setUpHistory();
setUpRows({ onAction: act, onOpen: openSheet });
setUpHero({ onAction: act, onOpen: openSheet });
setUpSheet({ onAction: act, onPlayed: played, memory: () => state });
setUpSearch({ onChoose: (item) => openSheet({ item }), onError: showError });
byId("new-visitor").addEventListener("click", () => setUser(newVisitor()));

function showService(service) {
  state.actions = service.actions ?? [];
  state.context = service.page_context ?? {};
  state.release = service.release;
  byId("service-title").textContent = service.title;
  document.title = service.title;
  byId("release").textContent = service.release;
  byId("size").textContent = `${count(service.num_items, "item")}, ${count(service.num_users, "user")}`;
}

async function start() {
  hideError();
  showHeroSkeleton();
  showRowsSkeleton();
  showHistorySkeleton();
  try {
    showService(await getService());
    const wanted = new URLSearchParams(location.search).get("user");
    const first = wanted || (await getUsers("", 1)).users[0]?.user_id;
    await setUser(first ?? newVisitor());
  } catch (error) {
    hideHero();
    showNoRows("No rows to show.");
    clearHistory();
    showError(error, start);
  }
}

start();
