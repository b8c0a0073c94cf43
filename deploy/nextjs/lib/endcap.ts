// What the storefront asks the shop for, through endcap, and kept here until endcap says that it changed.
import { cacheLife, cacheTag } from "next/cache"

/** Next.js keeps no more tags with one answer. */
const TAGS_MAX = 128
/** An id of Medusa's, which is also endcap's tag for what it names. */
const ID = /^(prod|variant|opt|optval|img|pcol|pcat|ptyp|ptag|pset|price|plist|reg|rr|sc)_[0-9A-HJKMNP-TV-Z]{26}$/
/** What an answer may depend on and does not show, by what its address says: the coarse tags of endcap's preset. */
const COARSE: [RegExp, string[]][] = [
  [/^\/store\/(products|product-variants)/, ["any:product"]],
  [/^\/store\/products\?|^\/store\/product-variants\?|fields=.*product/, ["list:product", "any:product"]],
  [/^\/store\/product-variants\?|[?&]variants/, ["list:product-variant"]],
  [/^\/store\/product-categories|categor/, ["list:category"]],
  [/^\/store\/collections|collection_id/, ["list:collection"]],
  [/^\/store\/product-tags|tag_id/, ["list:tag"]],
  [/^\/store\/product-types|type_id/, ["list:type"]],
  [/^\/store\/product-options|option_/, ["list:option"]],
  [/^\/store\/regions/, ["list:region"]],
  [/^\/store\/currencies/, ["list:currency"]],
  [/^\/store\/locales/, ["list:locale"]],
  [/^\/store\/return-reasons/, ["list:return-reason"]],
  [/^\/store\/payment-providers/, ["list:payment-provider"]],
  [/region_id|country_code|province|price/, ["priced"]],
  [/country_code|province/, ["taxed"]],
  [/inventory/, ["stock"]],
  [/[?&](q|title|order|updated_at|\$and|\$or)\b/, ["list:product-text", "list:product-variant", "list:category", "list:collection", "list:tag", "list:type", "list:option"]],
]

/** An answer of the shop's, and when it was fetched. The path begins with `/store/`. For what is everybody's alone. */
export async function fromShop<T>(path: string): Promise<{ body: T; asOf: number }> {
  "use cache"
  const key = process.env.MEDUSA_PUBLISHABLE_KEY ?? ""
  const response = await fetch(`${process.env.ENDCAP_URL}${path}`, { headers: { "x-publishable-api-key": key } })
  // What is thrown is not kept.
  if (!response.ok) throw new Error(`${path}: ${response.status}`)
  const body = (await response.json()) as T
  cacheTag(...tagsOf(path, key, body))
  // What endcap refreshes behind its answer, or could not refresh, is not kept here as if it were new.
  const isStale = /detail=stale/.test(response.headers.get("cache-status") ?? "")
  cacheLife(isStale ? { stale: 0, revalidate: 1, expire: 1 } : { stale: 0, revalidate: 3600, expire: 86_400 })
  return { body, asOf: Date.now() }
}

/** endcap's tags for an answer: the ids in it, and what it depends on besides. */
export function tagsOf(path: string, key: string, body: unknown): string[] {
  const address = decodeURIComponent(path)
  const coarse = COARSE.flatMap(([pattern, tags]) => (pattern.test(address) ? tags : []))
  const ids = new Set<string>()
  const look = (value: unknown) => {
    if (typeof value === "string") ID.test(value) && ids.add(value)
    else if (value && typeof value === "object") Object.values(value).forEach(look)
  }
  look(body)
  const always = new Set(["all", `key:${key}`, `path:${path.split("?")[0]}`, ...coarse])
  return [...always, ...bounded([...ids], TAGS_MAX - always.size)]
}

/** What is too much is held under the tag of its kind, `price_*`, which endcap names with each purge of that kind. */
function bounded(ids: string[], most: number): string[] {
  const kinds = new Map<string, string[]>()
  for (const id of ids) {
    const kind = id.slice(0, id.indexOf("_") + 1)
    kinds.set(kind, [...(kinds.get(kind) ?? []), id])
  }
  const largest = [...kinds].sort(([, a], [, b]) => b.length - a.length)
  for (let count = ids.length; count > most && largest.length; ) {
    const [kind, those] = largest.shift()!
    kinds.set(kind, [`${kind}*`])
    count -= those.length - 1
  }
  return [...kinds.values()].flat()
}
