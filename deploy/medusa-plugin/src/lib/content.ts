import { AsyncLocalStorage } from "node:async_hooks"
import { Event, ID } from "./events"

/**
 * Fields of a product that say nothing about which lists it is in: no list is filtered by them. Lists that are searched
 * or sorted by them have the tag `list:product-text`. So it is with the prices of its variants.
 */
const CONTENT = new Set(["id", "title", "subtitle", "description", "metadata", "thumbnail", "images"])
const PRODUCT = /^\/admin\/products\/([^/?]+)\/?(\?|$)/
const BATCH = /^\/admin\/products\/batch\/?(\?|$)/
const UPDATED = new Set(["product.updated", "product.product.updated"])

/** Products whose content alone a request changes, and what it has emitted of them so far. */
type Edit = {
  products: Set<string>
  /** What its workflow emits. A batch writes products without an event of their module. */
  emits: Set<string>
  emitted: Set<string>
  /** All events of a workflow are of one group. */
  group?: string
}
const edits = new AsyncLocalStorage<Edit>()

/** Runs a request's handler so that the events of an edit of content are known as such. */
export function edit(method: string, path: string, body: unknown, handler: () => void): void {
  const edit = method === "POST" ? contentOnly(path, body) : undefined
  if (edit) edits.run(edit, handler)
  else handler()
}

/**
 * An event of a product that was updated, as what it means for lists: its content alone changed, or which lists it is in
 * may have changed. Every other event as it is.
 */
export function asUpdate(event: Event, group: string | undefined): Event {
  const id = event.data["id"]
  if (id === undefined || !UPDATED.has(event.type)) return event
  const type = isContent(event.type, id, group) ? "endcap.product-content" : "endcap.product-listing"
  return { type, data: { id }, notice: { event: event.type, id } }
}

/**
 * A workflow emits each name once for a product, all in one group. What comes again, in another group or in none is of
 * what the shop's own code did besides, in the same request. Where that comes first it is the request's own that is of
 * another group: one of the two is told as the wider, in whichever order they come.
 */
function isContent(type: string, id: string, group: string | undefined): boolean {
  const edit = edits.getStore()
  if (!edit?.products.has(id) || !edit.emits.has(type) || group === undefined) return false
  edit.group ??= group
  const said = `${type} ${id}`
  if (edit.group !== group || edit.emitted.has(said)) return false
  edit.emitted.add(said)
  return true
}

function contentOnly(path: string, body: unknown): Edit | undefined {
  const id = PRODUCT.exec(path)?.[1]
  if (id !== undefined && ID.test(id)) return content(body) ? { products: new Set([id]), emits: UPDATED, emitted: new Set() } : undefined
  if (!BATCH.test(path) || !object(body) || Object.keys(body).some((key) => key !== "update") || !Array.isArray(body["update"])) return undefined
  const updates: unknown[] = body["update"]
  if (!updates.every(content)) return undefined
  const products = new Set(updates.map((update) => String((update as { id?: unknown }).id)))
  return { products, emits: new Set(["product.updated"]), emitted: new Set() }
}

function content(body: unknown): boolean {
  return object(body) && Object.entries(body).every(([key, value]) => CONTENT.has(key) || (key === "variants" && pricesOnly(value)))
}

/** Prices have events of their own. */
function pricesOnly(variants: unknown): boolean {
  return Array.isArray(variants) && variants.every((variant) => object(variant) && Object.keys(variant).every((key) => key === "id" || key === "prices"))
}

function object(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}
