// Shoppers who know nothing of each other: requests at a steady pace, whether earlier ones are answered or not.
import { Agent, get } from "node:http"
import { pause } from "./http.mjs"

const agent = new Agent({ keepAlive: true })
/** Requests that wait at once; beyond it a request is an error and is not made. */
const WAITING_MAX = 2_000
const TIMEOUT_MS = 30_000

/** One request: how long it took, and whether it was answered, and from memory. */
function ask(base, path, headers) {
  const from = performance.now()
  return new Promise((done) => {
    const ended = (good, fromMemory) => done({ good, fromMemory, ms: performance.now() - from })
    get(base + path, { agent, headers, timeout: TIMEOUT_MS }, (response) => {
      const outcome = /detail=(\w+)/.exec(response.headers["cache-status"] ?? "")?.[1]
      response.resume().on("end", () => ended(response.statusCode === 200, outcome === "hit" || outcome === "stale")).on("error", () => ended(false, false))
    })
      .on("timeout", function () { this.destroy() })
      .on("error", () => ended(false, false))
  })
}

/** Requests for some seconds, `rate` of them a second; resolves when the last is asked, to what becomes of them. */
export async function paced(base, paths, { rate, seconds, headers, first = 0 }) {
  const from = performance.now()
  const answers = []
  let waiting = 0
  for (let asked = 0; asked < rate * seconds; asked += 1) {
    const due = from + (asked * 1000) / rate - performance.now()
    if (due > 0) await pause(due)
    if (waiting >= WAITING_MAX) {
      answers.push({ good: false, fromMemory: false, ms: 0 })
      continue
    }
    waiting += 1
    answers.push(ask(base, paths[(first + asked) % paths.length], headers).finally(() => (waiting -= 1)))
  }
  return async () => {
    const all = await Promise.all(answers)
    const good = all.filter((one) => one.good)
    return { seconds, good: good.length, errors: all.length - good.length, hits: all.filter((one) => one.fromMemory).length, times: good.map(({ ms }) => [ms * 1000, 1]) }
  }
}
