import { Event, ID } from "./events"

/** A finished request that may have written. */
export type Written = { method: string; path: string; body: unknown; status: number }

/** Ids that are taken out of one request; beyond it everything may have changed. */
export const IDS_MAX = 5_000

/** What no public answer shows: a request that changes that alone says nothing. */
const UNSEEN = new Map([["POST:/admin/price-lists/:id", new Set(["title", "description"])]])

/** Requests that change what their bodies name, and emit nothing of it. Of others the path says enough. */
const NAMING = new Set(["POST:/admin/product-categories/:id/products", "POST:/admin/products/:id/images/:id/variants/batch"])

/** A product may be in other lists than before. */
const PRODUCT = new Map([["prod", "endcap.product-listing"]])
/**
 * What a change of a row is called, by the prefix of its id: lists of its kind go with it. What a request that failed
 * may have changed is told by these names, and by the rules that hold for them.
 */
const CHANGED = new Map([
  ...PRODUCT,
  ["variant", "product-variant.updated"],
  ["opt", "product-option.updated"],
  ["optval", "product.product-option-value.updated"],
  ["img", "product.product-image.updated"],
  ["pcol", "product-collection.updated"],
  ["pcat", "product-category.updated"],
  ["ptag", "product-tag.updated"],
  ["ptyp", "product-type.updated"],
  // That of an item which is deleted tells of its stock; what else an item is nobody sees.
  ["iitem", "inventory-item.deleted"],
  ["ilev", "inventory-level.updated"],
  ["resitem", "reservation-item.updated"],
])
/** The same for what empties more than answers that show the row: told where a request may have been left half-way. */
const CHANGED_WIDELY = new Map([
  ["price", "pricing.price.updated"],
  ["plist", "pricing.price-list.updated"],
  ["prpref", "pricing.price-preference.updated"],
  ["txr", "tax.tax-rate.updated"],
  ["txreg", "tax.tax-region.updated"],
  ["trans", "translation.updated"],
  ["rr", "order.return-reason.updated"],
])
/** And for what a request names only as the place of something else, unless it is the resource of its path. */
const CHANGED_PLACE = new Map([
  ["sales-channels sc", "sales-channel.updated"],
  ["api-keys apk", "api_key.api-key.updated"],
  ["regions reg", "region.updated"],
  ["stock-locations sloc", "LinkSalesChannelStockLocation.updated"],
  ["stores store", "store.store.updated"],
])
/** Kinds whose lists are told softly where what is above would be too much. */
const LISTED = new Map([
  ["regions", "region"],
  ["return-reasons", "return-reason"],
])

/**
 * Answers to requests that were refused, most likely before they wrote. Where a workflow's step refuses, those before it
 * are undone, so what shows what the request names goes all the same, and lists softly.
 */
const REFUSED = new Set([400, 403, 404, 409, 422])
/** Who may not do it at all: nothing was to be filled. */
const FORBIDDEN = 403

/** Resources that write nothing of the catalogue, whatever of it their bodies name. */
const ELSEWHERE = new Set(
  `campaigns claims customer-groups customers draft-orders exchanges fulfillment-providers fulfillment-sets fulfillments invites
   notifications order-changes order-edits orders payment-collections payments promotions refund-reasons returns
   shipping-option-types shipping-options shipping-profiles uploads users workflows-executions`.split(/\s+/),
)

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
])
/** The same for what empties more than lists. */
const MADE_WIDELY = new Map([
  ["price-preferences", any("pricing.price-preference.created")],
  ["tax-rates", any("tax.tax-rate.created")],
  ["tax-regions", any("tax.tax-region.created")],
])

/** The segments of a request's path, without its query: an id as its handler has it, all else as it was sent. */
const split = (path: string): string[] => (path.split("?")[0] ?? "").split("/").filter((segment) => segment !== "").map((segment, at) => id(segment, at) ?? segment)

/** The id that a segment is. After `admin` comes the name of a resource, which may look like one. */
function id(segment: string, at: number): string | undefined {
  if (at < 2) return undefined
  try {
    const decoded = decodeURIComponent(segment)
    return ID.test(decoded) ? decoded : undefined
  } catch {
    return undefined
  }
}

/** What a request is called: `POST:/admin/price-lists/:id`. */
export function route({ method, path }: Pick<Written, "method" | "path">): string {
  return `${method}:/${split(path).map((segment, at) => (at > 1 && ID.test(segment) ? ":id" : segment)).join("/")}`
}

/**
 * What a finished admin request says by itself, whether it emitted an event or not.
 *
 * `POST /admin/price-lists/plist_1` becomes the event `POST:/admin/price-lists/:id` with the data `{id: "plist_1",
 * plist: "plist_1"}`: the first id of the path, each id by its prefix; and where bodies count, once for each id that
 * the body names, as `named`. One that failed says more, see `failed`. Who listens to endcap's events is told of none of
 * these. Returns nothing where there is nothing to tell, and `undefined` where there are too many ids.
 */
export function adminEvents(written: Written): Event[] | undefined {
  const [name, segments] = [route(written), split(written.path)]
  const inPath = segments.slice(2).filter((segment) => ID.test(segment))
  const hasFailed = written.status >= 400
  const named = new Set<string>()
  if ((hasFailed || NAMING.has(name)) && !collect(written.body, named, 0)) return undefined
  const fields = typeof written.body === "object" && written.body !== null ? Object.keys(written.body) : []
  const unseen = UNSEEN.get(name)
  const isUnseen = unseen !== undefined && fields.length > 0 && fields.every((field) => unseen.has(field))
  const told = isUnseen ? [] : ended(name, inPath, named)
  if (!hasFailed) return told
  const request = { route: name, segments, inPath, touched: [...new Set([...inPath, ...named])] }
  const events = REFUSED.has(written.status) ? refused(request, written.status) : [...(request.touched.length > 0 ? told : []), ...failed(request)]
  return events.map((event) => ({ ...event, isGuess: true }))
}

function ended(route: string, inPath: string[], named: Set<string>): Event[] {
  const base: Record<string, string> = {}
  for (const id of inPath) {
    base["id"] ??= id
    base[prefix(id)] ??= id
  }
  if (!NAMING.has(route)) return [{ type: route, data: base, notice: null }]
  // Where it names nothing its place stands for that: what lacks a name cannot be told, and would empty the cache.
  const names = named.size > 0 ? [...named] : inPath.slice(-1)
  return names.map((id) => ({ type: route, data: { ...base, named: id }, notice: null }))
}

/** A request that failed, and the ids that it names. */
type Failed = { route: string; segments: string[]; inPath: string[]; touched: string[] }

/**
 * A request that failed may have been undone half-way, or have failed when it read what it had written: neither need
 * leave an event. So besides what it would have said it says `failed:POST:…` with each id in it as `id`, and what a change
 * of each is called. One that names nothing tells of lists of what it was to make. One that names nothing known, and makes
 * nothing known, says nothing.
 */
function failed(request: Failed): Event[] {
  const [resource, place] = [request.segments[1] ?? "", request.inPath[0] ?? ""]
  return [
    ...made(request, MADE),
    ...made(request, MADE_WIDELY),
    ...named(request),
    ...changed(request, CHANGED),
    ...changed(request, CHANGED_WIDELY),
    ...tell(CHANGED_PLACE.get(`${resource} ${prefix(place)}`), place),
  ]
}

/** What one says that was refused: nothing that empties more than answers that show what it names, and lists. */
function refused(request: Failed, status: number): Event[] {
  if (status === FORBIDDEN) return [...named(request), ...changed(request, PRODUCT)]
  const kind = LISTED.get(request.segments[1] ?? "")
  const lists = kind !== undefined && request.inPath.length > 0 ? [list(kind)] : []
  return [...made(request, MADE), ...lists, ...named(request), ...changed(request, CHANGED)]
}

function made({ segments, inPath }: Failed, events: Map<string, Event>): Event[] {
  const makes = inPath.length === 0 && (segments.length === 2 || segments[2] === "batch")
  const event = makes ? events.get(segments[1] ?? "") : undefined
  return event ? [event] : []
}

function named({ route, touched }: Failed): Event[] {
  return touched.flatMap((id) => tell(`failed:${route}`, id))
}

function changed({ segments, inPath, touched }: Failed, names: Map<string, string>): Event[] {
  const ids = ELSEWHERE.has(segments[1] ?? "") ? inPath : touched
  return ids.flatMap((id) => tell(names.get(prefix(id)), id))
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
