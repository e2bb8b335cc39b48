// How feedback, times and counts read.

const PAST = {
  play: "Played", played: "Played", watch: "Watched", watched: "Watched", view: "Viewed", listen: "Listened",
  like: "Liked", liked: "Liked", dislike: "Disliked", disliked: "Disliked", love: "Loved", click: "Clicked",
  save: "Saved", add: "Added", skip: "Skipped", share: "Shared", hide: "Hid", buy: "Bought", purchase: "Bought",
  rate: "Rated", rating: "Rated", read: "Read", finish: "Finished",
};
const OPPOSITE = { like: "Disliked", liked: "Disliked" };

const past = (name) => (Object.hasOwn(PAST, name) ? PAST[name] : null);

/** An item without a title still needs a name to be read by. */
export const titleOf = (item) => String(item.title || item.item_id);

/** What kind of title an item is, in a few words: its genres, else its collection. */
export const kindsOf = (item) => (item.genres ?? []).join(" · ") || item.collection || "";

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
export const count = (n, one, many = `${one}s`) => `${number.format(n)} ${n === 1 ? one : many}`;

/** What an action is called on a button: one after which the item is never shown again says so. */
export const nameOf = (action) => (action.hides ? "Not for me" : action.label);

/** 'Liked "X"' for an action just taken; an action of another name reads 'Add to list: "X"'. */
export function didAction(action, title) {
  const verb = past(action.name);
  return verb ? `${verb} "${title}"` : `${action.label}: "${title}"`;
}

function sameFeedback(a, b) {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function signal(name, value) {
  if (value < 0 && Object.hasOwn(OPPOSITE, name)) return OPPOSITE[name];
  const verb = past(name) ?? capital(name.replaceAll("_", " "));
  if (verb === "Rated") return `${verb} ${number.format(value)}`;
  if (value === 1) return verb;
  if (value > 0 && value < 1) return `${verb} ${percent(value)}`;
  return `${verb} ${number.format(value)}`;
}

/** What an event says, e.g. 'Played 80 % · liked'. */
export function describe(feedback, actions) {
  // An action may be told by a zero ({"like": 0}), so whole actions are tried before the single signals.
  const action = actions.find((each) => sameFeedback(each.feedback, feedback));
  if (action) return past(action.name) ?? action.label;
  const entries = Object.entries(feedback);
  // A log of bare interactions says that something happened, not what.
  if (entries.length === 0) return "Interacted";
  // A log with a column per signal fills the silent ones with zeros: they say nothing next to one that speaks.
  const speaking = entries.filter(([, value]) => value !== 0);
  const parts = (speaking.length ? speaking : entries).map(([name, value]) => signal(name, value));
  return parts.map((part, i) => (i ? part.charAt(0).toLowerCase() + part.slice(1) : part)).join(" · ");
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const dated = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

export function ago(timeMs, now = Date.now()) {
  const seconds = (timeMs - now) / 1000;
  if (Math.abs(seconds) < 60) return "just now";
  if (Math.abs(seconds) < 3600) return relative.format(Math.round(seconds / 60), "minute");
  if (Math.abs(seconds) < 86400) return relative.format(Math.round(seconds / 3600), "hour");
  if (Math.abs(seconds) < 86400 * 7) return relative.format(Math.round(seconds / 86400), "day");
  return dated.format(timeMs);
}

export const percent = (part) => `${Math.round(part * 100)} %`;

export const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
