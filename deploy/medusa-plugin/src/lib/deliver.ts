import { signed } from "./sign"

/** What became of one attempt. */
export type Outcome =
  /** endcap has it: in its log, or safe in its journal. `but` is what it could not make out of it. */
  | { kind: "taken"; but?: string }
  /** Too large as it is. */
  | { kind: "large" }
  /** It will never be taken: sending it again helps nobody. */
  | { kind: "refused"; why: string }
  /** Not now. `after` is when endcap asked to be tried again, in ms. */
  | { kind: "later"; why: string; after?: number }

/** An attempt may take this long: endcap answers when the purge is applied, within 2 s. */
const TIMEOUT_MS = 5_000

/** Sends one delivery and says what became of it, in words for the owner of the shop. */
export async function deliver(target: string, key: Buffer, id: string, body: string, now = Date.now): Promise<Outcome> {
  let response: Response
  let text: string
  try {
    response = await fetch(target, {
      method: "POST",
      headers: { "content-type": "application/json", ...signed(key, id, Math.floor(now() / 1000), body) },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    text = await response.text()
  } catch (error) {
    return { kind: "later", why: `cannot be reached (${reason(error)}): is endcap running, and is this its ops address?` }
  }
  const { status } = response
  // 409 is for a delivery that was taken before: our retry was signed in the same second as the first attempt.
  const but = vague(text)
  if ((status >= 200 && status < 300) || status === 409) return { kind: "taken", ...(but ? { but } : {}) }
  switch (status) {
    case 400:
      return { kind: "refused", why: but ?? `does not understand a delivery (${text.slice(0, 500)}): are endcap and this plugin of one version?` }
    case 401:
      return { kind: "later", why: `does not accept our signature: ${skew(response, now())}` }
    case 404:
      return { kind: "later", why: `knows no such webhook: the URL ends in /hooks/ and the name of a [hooks] section, "default" for webhook_secret` }
    case 413:
      return { kind: "large" }
    case 503:
      return { kind: "later", why: "cannot keep purges safe right now (its Redis is out of reach)", after: retryAfter(response) }
    default:
      return { kind: "later", why: `answers ${status}: is this endcap's ops address?`, after: retryAfter(response) }
  }
}

/** What endcap says of events in whose data it found no id to purge by. */
function vague(text: string): string | undefined {
  let answer: { incomplete?: { event: string; lacking: string }[] } | null
  try {
    answer = JSON.parse(text)
  } catch {
    return undefined
  }
  const events = (answer?.incomplete ?? []).map(({ event, lacking }) => `${event} (no ${lacking})`)
  if (events.length === 0) return undefined
  return `cannot tell what was changed by ${[...new Set(events)].slice(0, 5).join(", ")}: answers that show it stay until they are old`
}

/** Most that a `Retry-After` is believed. */
const RETRY_AFTER_MS_MAX = 60_000

function retryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? NaN)
  return seconds >= 0 ? Math.min(seconds * 1000, RETRY_AFTER_MS_MAX) : undefined
}

function skew(response: Response, now: number): string {
  const theirs = Date.parse(response.headers.get("date") ?? "")
  const seconds = Math.round(Math.abs(theirs - now) / 1000)
  if (seconds > 30) return `its clock and ours are ${seconds} s apart, more than 300 s is refused: set the clocks`
  return "the secret in medusa-config must be the webhook_secret of endcap"
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === "TimeoutError") return "no answer in time"
  const cause = error.cause as { code?: string; message?: string } | undefined
  return cause?.code ?? cause?.message ?? error.message
}
