// What the user did with each item, as their history tells it: how far they played it, and which actions they took.

const FINISHED = 0.9;

const keyOf = (item) => String(item.item_id);

function fulfils(feedback, wanted) {
  const names = Object.keys(wanted);
  return names.length > 0 && names.every((name) => feedback[name] === wanted[name]);
}

/** Reads a history, the latest event first: item id -> {part, done: names of the actions taken}. */
export function remember(events, actions) {
  const player = actions.find((action) => action.part_played);
  const known = new Map();
  for (const { item, feedback } of events) {
    const one = known.get(keyOf(item)) ?? { part: null, done: new Set() };
    const part = player ? feedback[player.part_played] : undefined;
    if (one.part === null && part > 0) one.part = part;
    for (const action of actions) if (!action.part_played && fulfils(feedback, action.feedback)) one.done.add(action.name);
    known.set(keyOf(item), one);
  }
  return known;
}

export const recall = (known, item) => known.get(keyOf(item)) ?? { part: null, done: new Set() };

/** The items that were begun and not finished, the latest first. */
export function unfinished(events, actions, known, limit) {
  const hiding = actions.filter((action) => action.hides).map((action) => action.name);
  const items = new Map(events.map(({ item }) => [keyOf(item), item]));
  return [...items.values()]
    .filter((item) => {
      const { part, done } = recall(known, item);
      return part !== null && part < FINISHED && !hiding.some((name) => done.has(name));
    })
    .slice(0, limit);
}
