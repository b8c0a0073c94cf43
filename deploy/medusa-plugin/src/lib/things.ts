import { ID } from "./events"

/** The fields of one thing that an event is about. */
export type Thing = Record<string, string>

/** Longest field that is taken over, in characters. */
const FIELD_MAX = 256

/** The things that an event is about: an object with ids in it, a bare id, or a list of these. */
export function things(data: unknown): Thing[] {
  if (Array.isArray(data)) return data.flatMap(things)
  if (typeof data === "string" || typeof data === "number") return [{ id: String(data) }]
  if (typeof data !== "object" || data === null) return [{}]
  const { id, ...rest } = data as Record<string, unknown>
  const fields = Object.entries(rest).filter((entry): entry is [string, string] => typeof entry[1] === "string" && entry[1].length <= FIELD_MAX)
  const ids = (Array.isArray(id) ? id : [id]).filter((one) => typeof one === "string" || typeof one === "number")
  return ids.length === 0 ? [Object.fromEntries(fields)] : ids.map((one) => ({ ...Object.fromEntries(fields), id: String(one) }))
}

/** What is odd about an event's data, in words for the owner of the shop. */
export function odd(name: string, data: unknown): string | undefined {
  if (typeof data === "string" && !ID.test(data)) return `${name} carries a bare text, which is taken for the id of what changed; { id } would be certain`
  const found = things(data)
  if (found.length === 0 || found.some((thing) => Object.keys(thing).length > 0)) return undefined
  return `${name} does not say what it is about, so the cache is emptied where its rule needs an id: emit it with { id }`
}

/** The id of a thing alone: its own, or that of what the event is named after, as in `order.return_requested`. */
export function idOf(name: string, thing: Thing): Thing {
  const id = thing["id"] ?? thing[`${name.split(".")[0]}_id`]
  return id === undefined ? {} : { id }
}
