import { signed } from "./sign"

/** What became of one attempt. */
export type Outcome =
  /** endcap has it: in its log, or safe in its journal. */
  | { kind: "taken" }
  /** endcap has it, and could not make out all of it: it knows no such name, as an older one, or was told no id. */
  | { kind: "unknown"; why: string }
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
  // Too large for endcap, or for a proxy in between.
  if (status === 413) return { kind: "large" }
  const after = retryAfter(response)
  const answer = read(text)
  if (!answer) return { kind: "later", why: stranger(status), after }
  const vague = lacking(answer)
  if (answer.purged !== undefined && status < 300) {
    const strange = answer.unknown.filter((name) => name.startsWith("endcap."))
    if (strange.length > 0) return { kind: "unknown", why: `does not know ${some(strange)}: has it preset = "medusa", and is it as new as this plugin?` }
    return vague ? { kind: "unknown", why: vague } : { kind: "taken" }
  }
  switch (status) {
    case 400:
      return { kind: "refused", why: vague ?? `does not understand a delivery (${text.slice(0, 500)}): are endcap and this plugin of one version?` }
    case 401:
      return { kind: "later", why: `does not accept our signature: ${skew(response, now())}` }
    case 404:
      return { kind: "later", why: `knows no such webhook: the URL ends in /hooks/ and the name of a [hooks] section, "default" for webhook_secret` }
    // It was taken before: our retry was signed in the same second as the first attempt.
    case 409:
      return { kind: "taken" }
    case 503:
      return { kind: "later", why: "cannot keep purges safe right now (its Redis is out of reach)", after }
    default:
      return { kind: "later", why: `answers ${status}: its log says why`, after }
  }
}

/** What endcap answers: how much it purged, or what is wrong and nothing else. */
type Answer = { purged?: number; error?: string; unknown: string[]; incomplete: Incomplete[] }
type Incomplete = { event: string; lacking: string }

/** The answer, if it is endcap's: a page that is there for every address says 200 too. */
function read(text: string): Answer | undefined {
  let answer: Answer | null
  try {
    answer = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof answer !== "object" || answer === null) return undefined
  const isError = typeof answer.error === "string" && Object.keys(answer).length === 1
  if (typeof answer.purged !== "number" && !isError) return undefined
  return { ...answer, unknown: list(answer.unknown).filter(isText), incomplete: list(answer.incomplete).filter(isIncomplete) }
}

/** What is of another shape than endcap's says nothing. */
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
const isText = (value: unknown): value is string => typeof value === "string"
function isIncomplete(value: unknown): value is Incomplete {
  const { event, lacking } = (value ?? {}) as Partial<Incomplete>
  return isText(event) && isText(lacking)
}

function stranger(status: number): string {
  if (status >= 500) return `answers ${status}, and not as endcap does: something between here and endcap fails, or this is not its ops address`
  return `answers ${status}, and not as endcap does: url must be endcap's ops address; its public one hands everything on to the shop`
}

/** What endcap says of events in whose data it found no id to purge by. */
function lacking({ incomplete }: Answer): string | undefined {
  const events = incomplete.map(({ event, lacking }) => `${event} (no ${lacking})`)
  return events.length === 0 ? undefined : `cannot tell what was changed by ${some(events)}`
}

function some(names: string[]): string {
  return [...new Set(names)].slice(0, 5).join(", ")
}

/** Most that a `Retry-After` is believed. */
const RETRY_AFTER_MS_MAX = 60_000

function retryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? NaN)
  return seconds >= 0 ? Math.min(seconds * 1000, RETRY_AFTER_MS_MAX) : undefined
}

/** So far apart clocks are worth a word; and so far apart endcap refuses, unless its `tolerance` says otherwise. */
const SKEW_S = { said: 30, refused: 300 }

function skew(response: Response, now: number): string {
  const theirs = Date.parse(response.headers.get("date") ?? "")
  const seconds = Math.round(Math.abs(theirs - now) / 1000)
  const clocks = `its clock and ours are ${seconds} s apart, more than ${SKEW_S.refused} s is refused: set the clocks`
  const secret = "the secret in medusa-config must be the webhook_secret of endcap"
  if (seconds > SKEW_S.refused) return clocks
  return seconds > SKEW_S.said ? `${secret}; besides, ${clocks}` : secret
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === "TimeoutError") return "no answer in time"
  const cause = error.cause as { code?: string; message?: string } | undefined
  return cause?.code ?? cause?.message ?? error.message
}
