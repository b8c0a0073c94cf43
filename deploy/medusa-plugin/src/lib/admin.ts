import { Event, ID } from "./events"

/** A finished request that may have written. */
export type Written = { method: string; path: string; body: unknown; status: number }

/** Ids that are taken out of one request; beyond it everything may have changed. */
export const IDS_MAX = 5_000

/** What no public answer shows: a request that changes that alone says nothing. */
const UNSEEN = new Map([["POST:/admin/price-lists/:id", new Set(["title", "description"])]])

/**
 * What a finished admin request says by itself, whether it emitted an event or not.
 *
 * `POST /admin/price-lists/plist_1` becomes the event `POST:/admin/price-lists/:id` with the data `{id: "plist_1",
 * plist: "plist_1"}`: the first id of the path, each id by its prefix; and once more for each id that the body names,
 * as `named`. A request that failed may have been undone half-way, which leaves no event: `failed:POST:…` names each
 * id in it as `id`, and lists that were filled in between may lack a product of it. Who listens to endcap's events is
 * told of none of these. Returns nothing where no id is left to tell, and `undefined` where there are too many.
 */
export function adminEvents({ method, path, body, status }: Written): Event[] | undefined {
  const segments = (path.split("?")[0] ?? "").split("/").filter((segment) => segment !== "")
  const inPath = segments.filter((segment) => ID.test(segment))
  const named = new Set<string>()
  if (!collect(body, named, 0)) return undefined
  const route = `${method}:/${segments.map((segment) => (ID.test(segment) ? ":id" : segment)).join("/")}`
  if (status >= 400) {
    const touched = [...new Set([...inPath, ...named])]
    const products = touched.filter((id) => id.startsWith("prod_"))
    return [...tell(`failed:${route}`, touched), ...tell("endcap.product-listing", products)]
  }
  const unseen = UNSEEN.get(route)
  const fields = typeof body === "object" && body !== null ? Object.keys(body) : []
  if (unseen && fields.length > 0 && fields.every((field) => unseen.has(field))) return []
  const base: Record<string, string> = {}
  for (const id of inPath) {
    base["id"] ??= id
    base[ID.exec(id)?.[1] ?? ""] ??= id
  }
  if (named.size === 0) return [{ type: route, data: base, notice: null }]
  return [...named].map((id) => ({ type: route, data: { ...base, named: id }, notice: null }))
}

function tell(type: string, ids: string[]): Event[] {
  return ids.map((id) => ({ type, data: { id }, notice: null }))
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
