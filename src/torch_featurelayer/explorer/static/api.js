// Frames from the server. The token stays in the fragment of the address, which browsers never send.

const fragment = () => new URLSearchParams(location.hash.slice(1));
const token = fragment().get("token") ?? "";
const page = Math.random().toString(36).slice(2);
const headers = { "x-featurelayer-token": token, "x-featurelayer-page": page };
const types = { uint8: Uint8Array, float32: Float32Array, int32: Int32Array };

let pending = new AbortController();

/** Gives up what was asked for and has not come. */
export function cancel() {
  pending.abort();
  pending = new AbortController();
}

/** A newer request has taken the place of this one. */
export class Stale extends Error {}

/** The options of the view in the address, but the token. */
export function remembered() {
  return Object.fromEntries([...fragment()].filter(([name]) => name !== "token"));
}

/** Puts the options of the view into the address, so that a link restores it; as a step of the history if `isStep`. */
export function remember(options, isStep = false) {
  const address = "#" + new URLSearchParams({ token, ...options });
  if (address === location.hash) return;
  history[isStep ? "pushState" : "replaceState"](null, "", address);
}

let sent = 0; // requests
const latest = new Map(); // by kind, the number of its latest request

/** The answer to a request: its header, and `arrays` by name, each `{ values, shape }`. Outdated by the next of its kind. */
export async function ask(view, options = {}) {
  const kind = `${view}/${options.panel ?? ""}`;
  const number = ++sent;
  latest.set(kind, number);
  // Requests may overtake each other on their way: the number tells the server which is the latest.
  const numbered = { ...headers, "x-featurelayer-number": number };
  const response = await fetch(`api/${view}?${new URLSearchParams(options)}`, { headers: numbered, signal: pending.signal });
  const answer = await parse(await answered(response));
  if (latest.get(kind) !== number) throw new Stale();
  latest.delete(kind);
  return answer;
}

/** Adds an image; returns its number and the names of all. */
export async function send(file) {
  const response = await fetch(`api/upload?${new URLSearchParams({ name: file.name })}`, { method: "POST", headers, body: file });
  return (await answered(response)).json();
}

async function answered(response) {
  if (response.status === 204) throw new Stale();
  if (!response.ok) {
    const text = await response.text();
    let said = text;
    try { said = JSON.parse(text).error; } catch { /* it was plain text */ }
    throw new Error(said);
  }
  return response;
}

async function parse(response) {
  const buffer = await response.arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, { dtype, shape, offset, bytes }] of Object.entries(told.arrays)) {
    const values = new types[dtype](buffer, 4 + length + offset, bytes / types[dtype].BYTES_PER_ELEMENT);
    arrays[name] = { values, shape };
  }
  return { ...told, arrays };
}
