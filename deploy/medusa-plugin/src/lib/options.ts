import { secretKey } from "./sign"

/** What `medusa-config.ts` may say. */
export type Options = {
  /** Where endcap takes webhooks: one URL or several. Default: ENDCAP_WEBHOOK_URL, parted by commas. */
  url?: string | string[]
  /** The secret that endcap shares: `whsec_…`. Default: ENDCAP_WEBHOOK_SECRET. */
  secret?: string
  /** Names of events that are not sent; a last `*` ends a prefix. Added to those that change no public answer. */
  ignore?: string[]
  /** Names that are sent although they change no public answer, with all their data, for rules of your own. */
  also?: string[]
  /**
   * Names of events that change no public answer and that those who listen to endcap's events are told of all the same,
   * with ids and nothing else; `*` stands for what has no dot. Default: `order.*`; `true`: `customer.*` as well; `false`: none.
   */
  feed?: boolean | string[]
  /** How exact stock is in lists of products: `exact`, or `age`: as old as lists may be. On a product's own page it is exact. */
  stockInLists?: "exact" | "age"
  /** `table` keeps what was not delivered in the shop's database, `memory` in the process alone. */
  outbox?: "table" | "memory"
}

/** Options that were checked. */
export type Settings = {
  targets: string[]
  key: Buffer
  /** Is an event of this name sent with what it carries? */
  sends: (name: string) => boolean
  /** And if not: with its ids, for those who listen? */
  tells: (name: string) => boolean
  stockInLists: "exact" | "age"
  outbox: "table" | "memory"
}

/**
 * What changes no public answer, and would be most of the traffic: carts, orders, payments, customers. What an order
 * does to stock has events of its own.
 */
const SILENT = [
  "cart.*", "order.*", "order-edit.*", "customer.*", "payment.*", "promotion.*", "fulfillment.*", "notification.*",
  "auth.*", "user.*", "invite.*", "file.*", "delivery.*", "shipment.*", "return.*", "claim.*", "exchange.*",
  "workflows.*", "LinkCart*", "LinkOrder*", "LinkCustomer*",
]
/** And what of these does. */
const TELLING = ["order.return-reason.*"]

/** Checks the options. Throws in words for the owner of the shop. */
export function settings(options: Options, env: NodeJS.ProcessEnv): Settings {
  const known = ["url", "secret", "ignore", "also", "feed", "stockInLists", "outbox"]
  const odd = Object.keys(options).filter((name) => !known.includes(name))
  if (odd.length > 0) throw new Error(`there is no option ${odd.join(", ")}; there are ${known.join(", ")}`)
  const urls = options.url ?? env.ENDCAP_WEBHOOK_URL?.split(",").filter((url) => url.trim()) ?? []
  const targets = [...new Set((Array.isArray(urls) ? urls : [urls]).map(target))]
  if (targets.length === 0) throw new Error('url is missing: where endcap listens, such as "http://127.0.0.1:8081"')
  const secret = options.secret ?? env.ENDCAP_WEBHOOK_SECRET
  if (!secret) throw new Error("secret is missing: the same text as webhook_secret of endcap")
  const outbox = options.outbox ?? "table"
  if (outbox !== "table" && outbox !== "memory") throw new Error('outbox is "table" or "memory"')
  const stockInLists = options.stockInLists ?? "exact"
  if (stockInLists !== "exact" && stockInLists !== "age") throw new Error('stockInLists is "exact" or "age"')
  if (options.feed !== undefined && typeof options.feed !== "boolean" && !Array.isArray(options.feed)) throw new Error('feed is true, false, or a list such as ["order.*"]')
  const silent = matcher([...SILENT, ...(options.ignore ?? [])])
  const telling = matcher([...TELLING, ...(options.also ?? [])])
  const sends = (name: string) => telling(name) || !silent(name)
  const [ignored, fed] = [matcher(options.ignore ?? []), feed(options.feed)]
  return { targets, key: secretKey(secret), sends, tells: (name) => fed(name) && !ignored(name), stockInLists, outbox }
}

/** What has two dots, as `order.order-item.created`, is a row of the database: a dozen for each order. */
function feed(option: boolean | string[] = ["order.*"]): (name: string) => boolean {
  const patterns = Array.isArray(option) ? option : option ? ["order.*", "customer.*"] : []
  const matching = patterns.map((pattern) => new RegExp(`^${pattern.split("*").map(escaped).join("[^.]*")}$`))
  return (name) => matching.some((pattern) => pattern.test(name))
}

function escaped(text: string): string {
  return text.replace(/[.+?^${}()|[\]\\]/g, "\\$&")
}

function target(text: string): string {
  let url: URL
  try {
    url = new URL(text.trim())
  } catch {
    throw new Error(`url "${text}" is no URL, such as "http://127.0.0.1:8081"`)
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new Error(`url "${text}" must be http or https`)
  if (url.pathname === "/") url.pathname = "/hooks/default"
  return url.href
}

function matcher(patterns: string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.endsWith("*")))
  const prefixes = patterns.filter((pattern) => pattern.endsWith("*")).map((pattern) => pattern.slice(0, -1))
  return (name) => exact.has(name) || prefixes.some((prefix) => name.startsWith(prefix))
}
