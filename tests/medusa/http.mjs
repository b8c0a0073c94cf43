// Requests to the shop and to the nodes in front of it.

/** A request; `json` is its body. */
export async function send(base, method, path, { headers = {}, json } = {}) {
  const body = json === undefined ? undefined : JSON.stringify(json)
  const response = await fetch(base + path, { method, headers: body === undefined ? headers : { "content-type": "application/json", ...headers }, body })
  return { status: response.status, text: await response.text(), outcome: /detail=(\w+)/.exec(response.headers.get("cache-status") ?? "")?.[1] }
}

/** The admin API of a shop, as a function that throws where it is refused. */
export async function admin(base, email = "admin@example.test", password = "supersecret") {
  const must = async (method, path, json, headers) => {
    const { status, text } = await send(base, method, path, { headers, json })
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${text.slice(0, 400)}`)
    return text === "" ? {} : JSON.parse(text)
  }
  const { token } = await must("POST", "/auth/user/emailpass", { email, password }, {})
  const headers = { authorization: `Bearer ${token}` }
  const api = (method, path, json, other) => must(method, path, json, other ?? headers)
  return Object.assign(api, { headers, get: (path) => api("GET", path), post: (path, json, other) => api("POST", path, json, other) })
}

/** Waits until `ready` answers with something, by a deadline that a busy machine can meet. */
export async function until(what, ready, ms = 300_000) {
  for (const end = Date.now() + ms; ; ) {
    const answer = await ready().catch(() => undefined)
    if (answer) return answer
    if (Date.now() > end) throw new Error(`${what}: not within ${ms / 1000} s`)
    await pause(20)
  }
}
export const pause = (ms) => new Promise((done) => setTimeout(done, ms))

/** Waits until the plugin has told endcap everything: it is asked itself. */
export const told = (api) =>
  until("the plugin's outbox", async () => {
    const status = await api.get("/admin/endcap")
    return status.idle && status
  })

/** JSON with the members of its objects in order: `fields` is a set to endcap, and Medusa writes them as they were asked for.
 * Those of the name `but` are left out. */
export const sorted = (text, but) =>
  JSON.stringify(JSON.parse(text), (name, value) => (name === but ? undefined : value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value))

/** Runs `work` on each item, `width` at once, and keeps the order. */
export async function all(items, width, work) {
  const results = []
  const queue = items.map((item, at) => [item, at])
  const one = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) results[next[1]] = await work(next[0])
  }
  await Promise.all(Array.from({ length: width }, one))
  return results
}
