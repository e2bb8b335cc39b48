// The service's HTTP API. Every failure leaves here as an ApiError, so that the page has one shape to show.

export class ApiError extends Error {
  constructor(kind, message, status) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

// Ids are 64-bit integers, a JavaScript number holds 53 bits of them: a longer one is kept as its digits.
function whole(_, value, context) {
  return Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? context.source : value;
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("no_answer", "The service did not answer. Is it still running?", 0);
  }
  let body = null;
  try {
    body = JSON.parse(await response.text(), whole);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // A proxy in between may answer an error in HTML: the status then says more than the body.
  }
  if (!response.ok) {
    const { kind, message } = body?.error ?? {};
    throw new ApiError(kind ?? "http", message ?? `The service answered with status ${response.status}.`, response.status);
  }
  if (body === null) throw new ApiError("bad_answer", "The service's answer is not JSON.", response.status);
  return body;
}

export const getService = () => call("/v1/service");

export function getUsers(search, limit, signal) {
  return call(`/v1/users?${new URLSearchParams({ search, limit })}`, { signal });
}

export function getHistory(userId, limit, signal) {
  return call(`/v1/users/${encodeURIComponent(userId)}/history?limit=${limit}`, { signal });
}

export function getRecommendations(userId, k, context, signal) {
  return call(`/v1/recommendations?${new URLSearchParams({ ...context, user_id: userId, k })}`, { signal });
}

export function findItems(text, limit, signal) {
  return call(`/v1/search?${new URLSearchParams({ q: text, limit })}`, { signal });
}

export const getItem = (itemId, signal) => call(`/v1/items/${encodeURIComponent(itemId)}`, { signal });

export function getSimilar(itemId, k, signal) {
  return call(`/v1/items/${encodeURIComponent(itemId)}/similar?k=${k}`, { signal });
}

/** Posts one event; it arrives even where the page is left meanwhile. */
export function postEvent(event) {
  return call("/v1/events", {
    method: "POST",
    keepalive: true,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ events: [event] }),
  });
}
