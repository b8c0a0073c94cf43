import { Event } from "./events"
import { answer, inTime, Sql, Store } from "./store"

/** How often dates are looked at; one that is known to come sooner is looked at when it comes. */
const LOOK_MS = 5_000
/** While one process looks, no other does. */
const LEASE_MS = 30_000
/** How far the first look ever goes back: nothing older than that is served. */
const BACK_MS = 3_600_000
/** Price lists that are told of one by one; beyond it all prices may have changed. */
export const LISTS_MAX = 1_000
/** A parcel that is never sent: its body says up to when dates were looked at. */
export const CLOCK = "price-clock"

/** What a look finds: up to when it looked, what opened or closed until then, and in how many ms the next date comes. */
export type Looked = { until: string; lists: string[]; next?: number }

/**
 * Price lists open and close by the clock, which is no event. So the lists themselves are asked which dates came to pass
 * since the last look. Up to when that was stands in the outbox, for all processes and over a restart: whatever made or
 * changed a date, however far it is, nothing has to be remembered of it.
 */
export class PriceClock {
  #timer?: NodeJS.Timeout
  #turn?: Promise<void>
  #stopped = false
  #known = false
  /** Up to when this process has looked. */
  #until?: string
  /** Looks in a row that were another's, or nobody's. */
  #misses = 0
  readonly #store: Store

  constructor(
    store: Store,
    private readonly look: (from: string) => Promise<Looked>,
    /** Resolves when what is told is kept. */
    private readonly tell: (events: Event[]) => Promise<void>,
    private readonly complain: (text: string) => void,
    private readonly now: () => number = Date.now,
  ) {
    this.#store = inTime(store)
  }

  start(): void {
    this.#turn = this.#look()
      .catch((error) => {
        this.complain(`dates of price lists cannot be read, so prices that begin or end by the clock show late: ${error instanceof Error ? error.message : error}`)
        return LOOK_MS
      })
      .then((wait) => {
        if (this.#stopped) return
        this.#timer = setTimeout(() => this.start(), wait)
        this.#timer.unref()
      })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#turn
  }

  /** One look, and how long to wait for the next. */
  async #look(): Promise<number> {
    const from = await this.#from()
    if (from === undefined) return LOOK_MS
    const { until, lists, next = LOOK_MS } = await answer(this.look(from))
    if (lists.length > 0) await this.tell(passed(lists))
    // Only when that is kept: who dies before it leaves the same look to another.
    this.#until = until
    await this.#store.release(CLOCK, 0, until).catch(() => undefined)
    return Math.min(LOOK_MS, next)
  }

  /** From when on to look; nothing while another process does. Where the store is out of reach each looks for itself. */
  async #from(): Promise<string | undefined> {
    const from = this.#until ?? new Date(this.now() - BACK_MS).toISOString()
    try {
      // Where one is known it keeps its body.
      if (!this.#known) await this.#store.put([{ id: CLOCK, target: CLOCK, body: from }], 0)
      const [parcel] = await this.#store.claim(CLOCK, 1, LEASE_MS)
      this.#misses = parcel ? 0 : this.#misses + 1
      // Nobody looks for that long: there is none any more.
      this.#known = this.#misses * LOOK_MS <= LEASE_MS
      return parcel?.body
    } catch {
      return from
    }
  }
}

/** The name of an event that means all prices of a list, or all prices there are. */
function passed(lists: string[]): Event[] {
  const type = "pricing.price-list.updated"
  if (lists.length > LISTS_MAX) return [{ type, data: {}, notice: null }]
  return lists.map((id) => ({ type, data: { id }, notice: null }))
}

/** Looks at the database, by whose clock Medusa too reads prices: from `starts_at` on, and up to `ends_at`. */
export async function lookAtLists(sql: Sql, from: string): Promise<Looked> {
  const until = String((await sql("select now()::text as now", [])).rows[0]?.["now"])
  const { rows } = await sql(
    `select id, (extract(epoch from due - ?::timestamptz) * 1000)::float8 as ms
     from (select id, starts_at as due from price_list where status = 'active' and deleted_at is null
           union all select id, ends_at from price_list where status = 'active' and deleted_at is null) dates
     where due >= ?::timestamptz order by due limit ?`,
    [until, from, LISTS_MAX + 2],
  )
  const wait = (row: Record<string, unknown>) => Number(row["ms"])
  const next = rows.find((row) => wait(row) > 0)
  return {
    until,
    lists: rows.filter((row) => wait(row) <= 0).map((row) => String(row["id"])),
    // Just behind the date: a list is open in the instant in which it ends.
    ...(next ? { next: Math.ceil(wait(next)) + 1 } : {}),
  }
}
