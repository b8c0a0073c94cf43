// endcap's tags for what the shop answers, as its Medusa preset has them: purges come by these names.
/** Next.js keeps no more tags with one answer. */
const TAGS_MAX = 128
/** An id of Medusa's, or one that somebody gave, which is also endcap's tag for what it names. */
const ID = /^(prod|variant|opt|optval|img|pcol|pcat|ptyp|ptag|pset|price|plist|reg|rr|sc)_\S{1,100}$/
/** A list that is asked for by what names a product or a variant is its page. */
const ASKED = /^\/store\/(?:products\?(?:.*&)?(?:handle|id)|product-variants\?(?:.*&)?(?:id|product_id))(?:\[[^\]]*\])*=/
/** What an answer may depend on and does not show, by what its address says: the coarse tags of endcap's preset. */
const COARSE: [RegExp, string[]][] = [
  [/^\/store\/(products|product-variants)/, ["any:product"]],
  [/^\/store\/(products|product-variants)(\?|$)/, ["list:product"]],
  // Whose variant it is decides whether it is there, and its fields may leave that out.
  [/^\/store\/product-variants\/.*[?&]fields\b/, ["list:product"]],
  // They embed every product unless told otherwise.
  [/^\/store\/(product-tags|product-types)|[?&]fields\b.*product/, ["list:product", "any:product"]],
  [/^\/store\/product-variants(\?|$)|[?&]variants/, ["list:product-variant"]],
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
  [/^\/store\/(products|product-variants)\/.*inventory/, ["stock-details"]],
  [ASKED, ["stock-details"]],
  [/[?&](q|title|order|updated_at|\$and|\$or)\b/, ["list:product-text", "list:product-variant", "list:category", "list:collection", "list:tag", "list:type", "list:option"]],
]

/** endcap's tags for an answer: the ids in it and in its address, and what it depends on besides. */
export function tagsOf(path: string, key: string, body: unknown): string[] {
  const address = decodeURIComponent(path)
  const coarse = COARSE.flatMap(([pattern, tags]) => (pattern.test(address) ? tags : []))
  const asked = ASKED.test(address) ? [...address.matchAll(/[?&](?:handle|id|product_id)(?:\[[^\]]*\])*=([^&]*)/g)].map(([, name]) => `asked:${name}`) : []
  // A list by category shows no id of the category.
  const ids = new Set([...asked, ...address.split(/[/?&=]/).filter((part) => ID.test(part))])
  const look = (value: unknown) => {
    // A category's path is ids with dots between.
    if (typeof value === "string") value.split(".").forEach((part) => ID.test(part) && ids.add(part))
    else if (value && typeof value === "object") Object.values(value).forEach(look)
  }
  look(body)
  const always = new Set(["all", `key:${key}`, `path:${path.split("?")[0]}`, ...coarse])
  return [...always, ...bounded([...ids], TAGS_MAX - always.size)]
}

/**
 * How long an answer is kept here where nothing purges it, in seconds. Prices may change by the clock, and stock may go by
 * age alone: these are as old here as in endcap, and asked for again there. What endcap refreshes behind its answer, or
 * could not refresh, is not kept as if it were new.
 */
export function lifeOf(tags: string[], isStale: boolean): { stale: number; revalidate: number; expire: number } {
  if (isStale) return { stale: 0, revalidate: 1, expire: 1 }
  if (tags.includes("priced") || tags.includes("stock")) return { stale: 0, revalidate: 120, expire: 280 }
  return { stale: 0, revalidate: 3600, expire: 86_400 }
}

/** What is too much is held under the tag of its kind, `price_*`, which endcap names with each purge of that kind. */
function bounded(ids: string[], most: number): string[] {
  const kinds = new Map<string, string[]>()
  for (const id of ids) {
    const kind = id.slice(0, id.search(/[_:]/) + 1)
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
