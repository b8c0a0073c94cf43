/** One thing that happened, as endcap reads it: a name, and the fields that its purges are made of. */
export type Event = { type: string; data: Record<string, string> }

/** Everything may have changed. What cannot be told in detail is told by this: nothing is ever left out. */
export const EVERYTHING: Event = { type: "endcap.everything", data: {} }

/** Largest body of a delivery, in bytes; endcap takes 256 KiB unless told otherwise. */
export const BODY_BYTES_MAX = 128 * 1024

/** An id as Medusa makes them: prefix, underscore, 26 characters of a ULID. */
export const ID = /^([a-z]+)_[0-9A-HJKMNP-TV-Z]{26}$/

/** Events without those said twice, in order. */
export class EventSet {
  readonly #events = new Map<string, Event>()

  add(event: Event): void {
    this.#events.set(JSON.stringify([event.type, event.data]), event)
  }

  get size(): number {
    return this.#events.size
  }

  take(): Event[] {
    const events = [...this.#events.values()]
    this.#events.clear()
    return events
  }
}

/** Bodies of deliveries: things of one type together, none larger than `most` bytes unless it holds one thing alone. */
export function bodies(events: Event[], most = BODY_BYTES_MAX): string[] {
  const set = new EventSet()
  events.forEach((event) => set.add(event))
  const sorted = set.take().sort((a, b) => (a.type < b.type ? -1 : a.type > b.type ? 1 : 0))
  const found: string[] = []
  let batch: Event[] = []
  let bytes = 0
  for (const event of sorted) {
    const size = Buffer.byteLength(JSON.stringify(event)) + 1
    if (batch.length > 0 && bytes + size > most) {
      found.push(write(batch))
      batch = []
      bytes = 0
    }
    batch.push(event)
    bytes += size
  }
  if (batch.length > 0) found.push(write(batch))
  return found
}

/** A body in two halves, or nothing where it holds one thing alone. */
export function halves(body: string): string[] {
  const events = read(body)
  if (events.length < 2) return []
  const middle = events.length >> 1
  return [write(events.slice(0, middle)), write(events.slice(middle))]
}

function write(events: Event[]): string {
  const types = new Map<string, Record<string, string>[]>()
  for (const { type, data } of events) types.set(type, [...(types.get(type) ?? []), data])
  return JSON.stringify({ events: [...types].map(([type, data]) => ({ type, data })) })
}

function read(body: string): Event[] {
  const { events } = JSON.parse(body) as { events: { type: string; data: Record<string, string>[] }[] }
  return events.flatMap(({ type, data }) => data.map((thing) => ({ type, data: thing })))
}
