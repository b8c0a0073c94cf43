import { AsyncLocalStorage } from "node:async_hooks"
import { Event, ID } from "./events"
import { Row } from "./rules"

/**
 * Fields of a product that say nothing about which lists it is in: no list is filtered by them. Lists that are searched
 * or sorted by them have the tag `list:product-text`. So it is with the prices of its variants.
 */
const CONTENT = new Set(["id", "title", "subtitle", "description", "metadata", "thumbnail", "images"])
/**
 * Columns that may say which lists it is in. The admin's forms name some of them whatever was changed: where all are as they
 * were, lists are, too.
 */
export const COLUMNS = [
  "status", "handle", "discountable", "is_giftcard", "type_id", "collection_id", "external_id",
  "material", "weight", "length", "height", "width", "origin_country", "hs_code", "mid_code",
] as const
/** Products of which it is remembered when they were last told as more than content; of older ones the newest counts. */
export const WIDER_MAX = 10_000
/** Products of one request whose columns are looked at. */
const LOOKED_AT_MAX = 500
const PRODUCT = /^\/admin\/products\/([^/?]+)\/?(\?|$)/
const BATCH = /^\/admin\/products\/batch\/?(\?|$)/
const WORKFLOW = new Set(["product.updated"])
const UPDATED = new Set(["product.updated", "product.product.updated"])

/** Reads these products' columns, and when each was updated last. */
export type Look = (ids: string[]) => Promise<Row[]>

/** Products whose content alone a request changes, and what it has emitted of them so far. */
type Edit = {
  /** What it says of their columns. */
  products: Map<string, Map<string, unknown>>
  /** By the clock, and by what was told before. */
  began: number
  turn: number
  /** What those were, as soon as that has been read. */
  before?: Map<string, Row>
  /** What its workflow emits. A batch writes products without an event of their module. */
  emits: Set<string>
  emitted: Set<string>
  /** All events of a workflow are of one group. */
  group?: string
}
const edits = new AsyncLocalStorage<Edit>()

/** Counts edits and what was told as more than content, so that it is known which came first. */
let turns = 0
/** When each product was last told as more than content, the oldest first. */
const wider = new Map<string, number>()
/** When one that is forgotten was told so at the latest. */
let forgotten = 0

/**
 * Runs a request's handler so that the events of an edit of content are known as such. What the products were is looked at
 * meanwhile, and nobody waits for it: where the handler is faster, or the look fails, the edit may be of anything.
 */
export function edit(method: string, path: string, body: unknown, handler: () => void, look?: Look): void {
  const edit = method === "POST" ? contentOnly(path, body) : undefined
  if (!edit) return handler()
  const ids = [...edit.products].flatMap(([id, said]) => (said.size > 0 ? id : []))
  if (look && ids.length > 0 && ids.length <= LOOKED_AT_MAX) {
    const known = (rows: Row[]) => void (edit.before = new Map(rows.map((row) => [row["id"], row])))
    look(ids).then(known, () => undefined)
  }
  edits.run(edit, handler)
}

/**
 * An event of a product that was updated, as what it means for lists: its content alone changed, or which lists it is in
 * may have changed. Every other event as it is.
 */
export function asUpdate(event: Event, group: string | undefined): Event {
  const id = event.data["id"]
  if (id === undefined || !UPDATED.has(event.type)) return event
  const isNarrow = isContent(event.type, id, group)
  if (!isNarrow) remember(id)
  return { type: isNarrow ? "endcap.product-content" : "endcap.product-listing", data: { id }, notice: { event: event.type, id } }
}

function remember(id: string): void {
  wider.delete(id)
  wider.set(id, ++turns)
  const [oldest] = wider
  if (wider.size <= WIDER_MAX || !oldest) return
  wider.delete(oldest[0])
  forgotten = oldest[1]
}

/**
 * A workflow emits each name once for a product, all in one group. What comes again, in another group or in none is of
 * what the shop's own code did besides, in the same request. Where that comes first it is the request's own that is of
 * another group: one of the two is told as the wider, in whichever order they come.
 */
function isContent(type: string, id: string, group: string | undefined): boolean {
  const edit = edits.getStore()
  if (!edit || !isAsBefore(edit, id) || !edit.emits.has(type) || group === undefined) return false
  edit.group ??= group
  const said = `${type} ${id}`
  if (edit.group !== group || edit.emitted.has(said)) return false
  edit.emitted.add(said)
  return true
}

/**
 * Whether a product's columns were what the request says that they are, and stayed so until it wrote them. A row that was
 * updated since the request began, by this process' clock, may be what the request has made of it. And another may have
 * changed it after it was looked at, as this process has heard since: then the request has changed it back.
 */
function isAsBefore({ products, before, began, turn }: Edit, id: string): boolean {
  const said = products.get(id)
  if (!said || said.size === 0) return said !== undefined
  if ((wider.get(id) ?? forgotten) > turn) return false
  const row = before?.get(id)
  if (!row || !(new Date(row["updated_at"]).getTime() < began)) return false
  return [...said].every(([column, value]) => text(row[column]) === text(value))
}

/** Measures are numbers here and text there. */
function text(value: unknown): string | null {
  return value === null || value === undefined ? null : String(value)
}

function contentOnly(path: string, body: unknown): Edit | undefined {
  const edit = (products: Edit["products"], emits: Set<string>): Edit => ({ products, emits, began: Date.now(), turn: ++turns, emitted: new Set() })
  const id = PRODUCT.exec(path)?.[1]
  if (id !== undefined && ID.test(id)) {
    const said = content(body)
    return said && edit(new Map([[id, said]]), isOfRow(body as object) ? UPDATED : WORKFLOW)
  }
  if (!BATCH.test(path) || !object(body) || Object.keys(body).some((key) => key !== "update") || !Array.isArray(body["update"])) return undefined
  const products: Edit["products"] = new Map()
  for (const update of body["update"] as unknown[]) {
    const said = content(update)
    const id = (update as { id?: unknown } | null)?.id
    // Twice in one batch: which of the two comes last nobody knows.
    if (!said || typeof id !== "string" || products.has(id)) return undefined
    products.set(id, said)
  }
  return edit(products, WORKFLOW)
}

/** What a body that changes content at the most says of columns; undefined where it may change more. */
function content(body: unknown): Map<string, unknown> | undefined {
  if (!object(body)) return undefined
  const said = new Map<string, unknown>()
  for (const [key, value] of Object.entries(body)) {
    if ((COLUMNS as readonly string[]).includes(key)) said.set(key, value)
    else if (!CONTENT.has(key) && !(key === "variants" && pricesOnly(value))) return undefined
  }
  return said
}

/** Images and variants have rows of their own: the product's module says nothing of them. */
function isOfRow(body: object): boolean {
  return Object.keys(body).some((key) => key !== "images" && key !== "variants")
}

/** Prices have events of their own. */
function pricesOnly(variants: unknown): boolean {
  return Array.isArray(variants) && variants.every((variant) => object(variant) && Object.keys(variant).every((key) => key === "id" || key === "prices"))
}

function object(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}
