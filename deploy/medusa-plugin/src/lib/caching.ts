import { Event } from "./events"

/** Medusa's caching module, as far as it is used here. */
export type Caching = { clear(what: { tags: string[] }): Promise<void> }

/**
 * Changes that emit no event, after which Medusa's own cache (flag `caching`) keeps stale lists for up to an hour.
 * What endcap refills after its purge would come from there.
 */
const SILENT = [
  // By the clock.
  /^pricing\.price-list\.updated$/,
  // A request that failed: what it names, and what it may have made.
  /^failed:/,
  /^endcap\.list$/,
  /^POST:\/admin\/price-lists\/:id$/,
  /^POST:\/admin\/product-categories\/:id\/products$/,
  /^POST:\/admin\/products\/:id\/variants\/:id\/images\/batch$/,
  /^POST:\/admin\/products\/:id\/images\/:id\/variants\/batch$/,
]

/** Makes Medusa's own cache forget its lists of products after a change that it cannot have heard of. */
export async function clear(caching: Caching | undefined, events: Event[]): Promise<void> {
  const silent = events.some(({ type }) => type === "endcap.everything" || SILENT.some((name) => name.test(type)))
  if (caching && silent) await caching.clear({ tags: ["Product:list:*", "ProductVariant:list:*"] })
}
