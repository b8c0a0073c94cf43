// The real client, and a tape of what it sent and was answered.
import { AsyncLocalStorage } from "node:async_hooks"

const running = new AsyncLocalStorage()
const send = globalThis.fetch

/** The client calls `fetch`: within `play` it is recorded, and keeps cookies as a browser does. */
globalThis.fetch = async (url, init) => {
  const play = running.getStore()
  if (!play) return send(url, init)
  if (play.cookies.size) init.headers.set("cookie", [...play.cookies].map((pair) => pair.join("=")).join("; "))
  const response = await send(url, init)
  const cookies = response.headers.getSetCookie().map((cookie) => /^([^=]+)=([^;]*)/.exec(cookie).slice(1))
  cookies.forEach(([name, value]) => play.cookies.set(name, value))
  play.tape.push({
    call: `${init.method ?? "GET"} ${new URL(url).pathname}${new URL(url).search}`,
    status: response.status,
    type: response.headers.get("content-type"),
    cookies: cookies.map(([name]) => name),
    outcome: /detail=([\w.]+)/.exec(response.headers.get("cache-status") ?? "")?.[1],
    text: await response.clone().text(),
  })
  return response
}

/** Plays a scene as somebody at an address, and returns the tape. What the client throws is on the tape as a status. */
export async function play(Medusa, base, { key, token, cookies = new Map(), headers = {}, session }, scene) {
  const type = session ? "session" : "jwt"
  const sdk = new Medusa({ baseUrl: base, publishableKey: key, globalHeaders: headers, auth: { type, jwtTokenStorageMethod: "memory" } })
  if (token) await sdk.client.setToken(token)
  const tape = []
  await running.run({ tape, cookies }, () => scene(forgiving(sdk)))
  return tape
}

/** The client, but a refusal is an answer like others. */
function forgiving(part) {
  return new Proxy(part, {
    get(from, name) {
      const value = from[name]
      if (typeof value === "function") {
        return async (...given) => {
          try {
            return await value.apply(from, given)
          } catch (error) {
            if (error.status === undefined) throw error
          }
        }
      }
      return value && typeof value === "object" ? forgiving(value) : value
    },
  })
}
