import { Event, ID } from "./events"

/** A finished request that may have written. */
export type Written = { method: string; path: string; body: unknown; status: number }

/** Ids that are taken out of one request; beyond it everything may have changed. */
export const IDS_MAX = 5_000

/** What no public answer shows: a request that changes that alone says nothing. */
const UNSEEN = new Map([["POST:/admin/price-lists/:id", new Set(["title", "description"])]])

/**
 * What a change of a row is called, by the prefix of its id: lists of its kind go with it. What a request that failed
 * may have changed is told by these names, and by the rules that hold for them.
 */
const CHANGED = new Map([
  ["prod", "endcap.product-listing"],
  ["variant", "product-variant.updated"],
  ["opt", "product-option.updated"],
  ["optval", "product.product-option-value.updated"],
  ["img", "product.product-image.updated"],
  ["pcol", "product-collection.updated"],
  ["pcat", "product-category.updated"],
  ["ptag", "product-tag.updated"],
  ["ptyp", "product-type.updated"],
  ["price", "pricing.price.updated"],
  ["plist", "pricing.price-list.updated"],
  ["prpref", "pricing.price-preference.updated"],
  ["txr", "tax.tax-rate.updated"],
  ["txreg", "tax.tax-region.updated"],
  // That of an item which is deleted tells of its stock; what else an item is nobody sees.
  ["iitem", "inventory-item.deleted"],
  ["ilev", "inventory-level.updated"],
  ["resitem", "reservation-item.updated"],
  ["trans", "translation.updated"],
  ["rr", "order.return-reason.updated"],
])
/** The same for what a body names only as the place of something else: it is told where the request's path names it. */
const CHANGED_PLACE = new Map([
  ["sc", "sales-channel.updated"],
  ["apk", "api_key.api-key.updated"],
  ["reg", "region.updated"],
  ["sloc", "LinkSalesChannelStockLocation.updated"],
  ["store", "store.store.updated"],
])

const list = (kind: string): Event => ({ type: "endcap.list", data: { kind }, notice: null })
const any = (type: string): Event => ({ type, data: {}, notice: null })

/** What a request without an id in its path makes: it may have been there for a moment, and nobody knows its id. */
const MADE = new Map([
  ["products", list("product")],
  ["product-categories", list("category")],
  ["collections", list("collection")],
  ["product-tags", list("tag")],
  ["product-types", list("type")],
  ["product-options", list("option")],
  ["regions", list("region")],
  ["return-reasons", list("return-reason")],
  ["price-preferences", any("pricing.price-preference.created")],
  ["tax-rates", any("tax.tax-rate.created")],
  ["tax-regions", any("tax.tax-region.created")],
])

/** The segments of a request's path, without its query. */
const split = (path: string): string[] => (path.split("?")[0] ?? "").split("/").filter((segment) => segment !== "")

/** What a request is called: `POST:/admin/price-lists/:id`. */
export function route({ method, path }: Pick<Written, "method" | "path">): string {
  return `${method}:/${split(path).map((segment) => (ID.test(segment) ? ":id" : segment)).join("/")}`
}

/**
 * What a finished admin request says by itself, whether it emitted an event or not.
 *
 * `POST /admin/price-lists/plist_1` becomes the event `POST:/admin/price-lists/:id` with the data `{id: "plist_1",
 * plist: "plist_1"}`: the first id of the path, each id by its prefix; and once more for each id that the body names,
 * as `named`. One that failed says more, see `failed`. Who listens to endcap's events is told of none of these. Returns
 * nothing where there is nothing to tell, and `undefined` where there are too many ids.
 */
export function adminEvents(written: Written): Event[] | undefined {
  const segments = split(written.path)
  const inPath = segments.filter((segment) => ID.test(segment))
  const named = new Set<string>()
  if (!collect(written.body, named, 0)) return undefined
  const fields = typeof written.body === "object" && written.body !== null ? Object.keys(written.body) : []
  const unseen = UNSEEN.get(route(written))
  const isUnseen = unseen !== undefined && fields.length > 0 && fields.every((field) => unseen.has(field))
  const told = isUnseen ? [] : ended(route(written), inPath, named)
  return written.status < 400 ? told : failed(route(written), segments[1] ?? "", inPath, named, told)
}

function ended(route: string, inPath: string[], named: Set<string>): Event[] {
  const base: Record<string, string> = {}
  for (const id of inPath) {
    base["id"] ??= id
    base[prefix(id)] ??= id
  }
  if (named.size === 0) return [{ type: route, data: base, notice: null }]
  return [...named].map((id) => ({ type: route, data: { ...base, named: id }, notice: null }))
}

/**
 * A request that failed may have been undone half-way, or have failed when it read what it had written: neither need
 * leave an event. So it says what it would have said, `failed:POST:…` with each id in it as `id`, and what a change of each
 * is called. One that names nothing tells of lists of what it was to make. One that names nothing known, and makes nothing
 * known, says nothing.
 */
function failed(route: string, resource: string, inPath: string[], named: Set<string>, told: Event[]): Event[] {
  const made = inPath.length === 0 ? MADE.get(resource) : undefined
  const touched = [...new Set([...inPath, ...named])]
  if (touched.length === 0) return made ? [made] : []
  return [
    ...told,
    ...(made ? [made] : []),
    ...touched.flatMap((id) => tell(`failed:${route}`, id)),
    ...touched.flatMap((id) => tell(CHANGED.get(prefix(id)), id)),
    ...inPath.flatMap((id) => tell(CHANGED_PLACE.get(prefix(id)), id)),
  ]
}

function tell(type: string | undefined, id: string): Event[] {
  return type === undefined ? [] : [{ type, data: { id }, notice: null }]
}

function prefix(id: string): string {
  return ID.exec(id)?.[1] ?? ""
}

function collect(value: unknown, found: Set<string>, depth: number): boolean {
  if (depth > 16 || found.size > IDS_MAX) return false
  if (typeof value === "string") {
    if (ID.test(value)) found.add(value)
    return true
  }
  if (typeof value !== "object" || value === null) return true
  return Object.values(value).every((inner) => collect(inner, found, depth + 1))
}
