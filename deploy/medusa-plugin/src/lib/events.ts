/** One thing that happened, as endcap reads it: a name, and the fields that its purges are made of. */
export type Event = {
  type: string
  data: Record<string, string>
  /** What those who listen to endcap's events are told in the place of this; `null`: nothing. */
  notice?: Notice | null
  /** Of a request that failed: where what it names is not there, there is nothing to tell. */
  isGuess?: boolean
}
/** An event by the name that the shop knows it by. */
export type Notice = { event: string; id?: string }

/** Everything may have changed. What cannot be told in detail is told by this: nothing is ever left out. */
export const EVERYTHING: Event = { type: "endcap.everything", data: {} }

/** A delivery of that alone. */
export const everything = (): string => write([EVERYTHING])

/** Largest body of a delivery, in bytes; endcap takes 256 KiB unless told otherwise. */
export const BODY_BYTES_MAX = 128 * 1024

/** Prefixes of ids that public answers show, or that a change of what they show is told by. */
const KINDS =
  "prod|variant|opt|optval|img|pcol|pcat|ptag|ptyp|pset|price|plist|prpref|reg|rr|sc|apk|iitem|ilev|resitem|sloc|store|txr|txreg|trans"

/**
 * An id: a prefix, an underscore, and 26 characters of a ULID, as Medusa makes them. Who makes a row may give it an id of his own,
 * as seeds and imports do: behind a known prefix anything is one, as it is for endcap.
 */
export const ID = new RegExp(`^([a-z]+)_(?:[0-9A-HJKMNP-TV-Z]{26}|(?<=^(?:${KINDS})_)\\S{1,250})$`)

/** Events without those said twice, in order. */
export class EventSet {
  readonly #events = new Map<string, Event>()

  add(event: Event): void {
    this.#events.set(JSON.stringify([event.type, event.data, event.isGuess === true, ...told(event)]), event)
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

/** Events of one type that are told alike: their things, and the ids that are told, each once. */
type Group = { type: string; data: Map<string, Record<string, string>>; notice?: { event: string; ids: Set<string> } | null }
/** As it is written. */
type Written = { type: string; data: Record<string, string>[]; notice?: { event: string; id?: string; ids?: string[] } | null }

function write(events: Event[]): string {
  const groups = new Map<string, Group>()
  for (const { type, data, notice } of events) {
    const key = JSON.stringify([type, ...told({ notice: notice && { event: notice.event } })])
    const fresh = (): Group => ({ type, data: new Map(), notice: notice && { event: notice.event, ids: new Set() } })
    const group = groups.get(key) ?? fresh()
    groups.set(key, group)
    group.data.set(JSON.stringify(data), data)
    if (notice?.id !== undefined) group.notice?.ids.add(notice.id)
  }
  const written = [...groups.values()].map(({ type, data, notice }): Written => {
    const event = { type, data: [...data.values()] }
    if (!notice) return notice === null ? { ...event, notice } : event
    const [id, ...more] = notice.ids
    return { ...event, notice: { event: notice.event, ...(more.length > 0 ? { ids: [...notice.ids] } : id === undefined ? {} : { id }) } }
  })
  return JSON.stringify({ events: written })
}

/** Things and told ids may differ in number: what has no partner is told with the last thing, or is not told of. */
function read(body: string): Event[] {
  const { events } = JSON.parse(body) as { events: Written[] }
  return events.flatMap(({ type, data, notice }) => {
    const ids = notice?.ids ?? [notice?.id]
    return Array.from({ length: Math.max(data.length, notice ? ids.length : 0) }, (_, at): Event => {
      const event = { type, data: data[Math.min(at, data.length - 1)] ?? {} }
      if (!notice) return notice === null ? { ...event, notice } : event
      const id = ids[at]
      return { ...event, notice: at > 0 && id === undefined ? null : { event: notice.event, ...(id === undefined ? {} : { id }) } }
    })
  })
}

/** What is told of an event, for comparing: nothing here means that it is told by its own name. */
function told({ notice }: { notice?: Notice | null }): unknown[] {
  return notice === undefined ? [] : [notice]
}
