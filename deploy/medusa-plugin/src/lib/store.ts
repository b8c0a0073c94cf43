/** A body on its way to one endcap. Its id stays the same at each attempt, so that endcap takes it once. */
export type Parcel = { id: string; target: string; body: string }

/** Where parcels are kept until they were taken. Several processes may share one. */
export interface Store {
  /** Keeps parcels; from `delayMs` on they are due. One with a known id is only put off. */
  put(parcels: Parcel[], delayMs: number): Promise<void>
  /** Takes up to `most` that are due, the longest due first. Nobody else gets them for `leaseMs`. */
  claim(target: string, most: number, leaseMs: number): Promise<Parcel[]>
  /** Gives one back, due after `delayMs`; as a new one where it has a new body. */
  release(id: string, delayMs: number, body?: string): Promise<void>
  /** Forgets them: they were taken, or called off. */
  drop(ids: string[]): Promise<void>
  /**
   * Keeps this one, and forgets all of its target that are older, but those whose id begins so. Of two that are folded at
   * once the younger stays.
   */
  fold(parcel: Parcel, but: string): Promise<void>
  /** How many a target has, without those whose id begins so. */
  count(target: string, but: string): Promise<number>
  /** Those that were kept for longer than `ms`, without those of the target of this name. */
  aged(ms: number, but: string): Promise<{ id: string; target: string }[]>
}

/**
 * A store may take this long for anything, and so may the database for what else it is asked; what a store does later does no harm,
 * for each parcel has one id.
 */
export const ANSWER_MS = 5_000

/** The same store, whose every answer is an error once it is late. */
export function inTime(store: Store): Store {
  return {
    put: (...of) => answer(store.put(...of)),
    claim: (...of) => answer(store.claim(...of)),
    release: (...of) => answer(store.release(...of)),
    drop: (...of) => answer(store.drop(...of)),
    fold: (...of) => answer(store.fold(...of)),
    count: (...of) => answer(store.count(...of)),
    aged: (...of) => answer(store.aged(...of)),
  }
}

/** The same answer, or an error once it is late. */
export async function answer<T>(late: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no answer within ${ANSWER_MS / 1000} s`)), ANSWER_MS)
  })
  return Promise.race([late, over]).finally(() => clearTimeout(timer))
}

/** Keeps parcels in this process. */
export class MemoryStore implements Store {
  readonly #rows = new Map<string, { parcel: Parcel; due: number; since: number }>()

  constructor(private readonly now: () => number = Date.now) {}

  get size(): number {
    return this.#rows.size
  }

  async put(parcels: Parcel[], delayMs: number): Promise<void> {
    const now = this.now()
    for (const parcel of parcels) this.#rows.set(parcel.id, { parcel, since: now, ...this.#rows.get(parcel.id), due: now + delayMs })
  }

  async claim(target: string, most: number, leaseMs: number): Promise<Parcel[]> {
    const now = this.now()
    const due = [...this.#rows.values()].filter((row) => row.parcel.target === target && row.due <= now)
    const taken = due.sort((a, b) => a.due - b.due).slice(0, most)
    for (const row of taken) row.due = now + leaseMs
    return taken.map((row) => row.parcel)
  }

  async release(id: string, delayMs: number, body?: string): Promise<void> {
    const row = this.#rows.get(id)
    if (!row) return
    const now = this.now()
    this.#rows.set(id, { ...(body === undefined ? row : { parcel: { ...row.parcel, body }, since: now }), due: now + delayMs })
  }

  async drop(ids: string[]): Promise<void> {
    for (const id of ids) this.#rows.delete(id)
  }

  async fold(parcel: Parcel, but: string): Promise<void> {
    await this.put([parcel], 0)
    // In the order in which they came. Nothing is older than what is gone already.
    const ids = [...this.#rows.keys()]
    const older = ids.slice(0, Math.max(0, ids.indexOf(parcel.id)))
    await this.drop(older.filter((id) => this.#rows.get(id)?.parcel.target === parcel.target && !id.startsWith(but)))
  }

  async count(target: string, but: string): Promise<number> {
    return [...this.#rows.values()].filter((row) => row.parcel.target === target && !row.parcel.id.startsWith(but)).length
  }

  async aged(ms: number, but: string): Promise<{ id: string; target: string }[]> {
    const old = [...this.#rows.values()].filter((row) => row.since < this.now() - ms && row.parcel.target !== but)
    return old.map(({ parcel: { id, target } }) => ({ id, target }))
  }
}

/** Runs one SQL statement with `?` for its values: knex's `raw`. */
export type Sql = (statement: string, values: unknown[]) => Promise<{ rows: Record<string, unknown>[] }>

/** The table and its index, both or neither. */
const MAKE = `
  create table if not exists endcap_outbox (
    id text primary key, target text not null, body text not null,
    due_at timestamptz not null, created_at timestamptz not null default now());
  create index if not exists endcap_outbox_due on endcap_outbox (target, due_at)`

/** A table that could not be made is looked for at each question, and not tried again before. */
const MAKE_EVERY_MS = 60_000

/** Keeps parcels in a table of the shop's database, for all its processes. */
export class TableStore implements Store {
  /** The table is there, as far as is known. */
  #opened?: Promise<void>
  /** It could not be made. */
  #refused?: { why: Error; at: number }

  constructor(
    private readonly sql: Sql,
    private readonly now: () => number = Date.now,
  ) {}

  /** Whoever asks first opens the table, and after a failure the next who asks: it may be made, or made again, at any time. */
  async #ask(statement: string, values: unknown[]): Promise<{ rows: Record<string, unknown>[] }> {
    try {
      await (this.#opened ??= answer(this.#open()))
      return await this.sql(statement, values)
    } catch (error) {
      this.#opened = undefined
      throw error
    }
  }

  /** Looks first: who may not make a table may not say "if not exists" of one that is there. */
  async #open(): Promise<void> {
    if (await this.#isThere()) return
    // Each try is an error in the database's own log.
    if (this.#refused && this.now() - this.#refused.at < MAKE_EVERY_MS) throw this.#refused.why
    try {
      await this.sql(MAKE, [])
    } catch (error) {
      // Of two processes that make it at once one fails.
      if (await this.#isThere()) return
      const why = new Error(`endcap_outbox is not there and cannot be made (see the README): ${error instanceof Error ? error.message : error}`)
      this.#refused = { why, at: this.now() }
      throw why
    }
  }

  async #isThere(): Promise<boolean> {
    return (await this.sql("select to_regclass('endcap_outbox') is not null as there", [])).rows[0]?.["there"] === true
  }

  async put(parcels: Parcel[], delayMs: number): Promise<void> {
    const row = "(?, ?, ?, now() + ? * interval '1 ms')"
    await this.#ask(
      `insert into endcap_outbox (id, target, body, due_at) values ${parcels.map(() => row).join(", ")}
       on conflict (id) do update set due_at = excluded.due_at`,
      parcels.flatMap((parcel) => [parcel.id, parcel.target, parcel.body, delayMs]),
    )
  }

  async claim(target: string, most: number, leaseMs: number): Promise<Parcel[]> {
    const { rows } = await this.#ask(
      `update endcap_outbox set due_at = now() + ? * interval '1 ms' where id in (
         select id from endcap_outbox where target = ? and due_at <= now()
         order by due_at limit ? for update skip locked) returning id, target, body`,
      [leaseMs, target, most],
    )
    return rows as Parcel[]
  }

  async release(id: string, delayMs: number, body?: string): Promise<void> {
    const anew = body === undefined ? "" : ", body = ?, created_at = now()"
    const values = body === undefined ? [delayMs, id] : [delayMs, body, id]
    await this.#ask(`update endcap_outbox set due_at = now() + ? * interval '1 ms'${anew} where id = ?`, values)
  }

  async drop(ids: string[]): Promise<void> {
    await this.#ask(`delete from endcap_outbox where id in (${ids.map(() => "?").join(", ")})`, ids)
  }

  async fold(parcel: Parcel, but: string): Promise<void> {
    await this.put([parcel], 0)
    await this.#ask(
      `delete from endcap_outbox where target = ? and not starts_with(id, ?)
       and (created_at, id) < (select created_at, id from endcap_outbox where id = ?)`,
      [parcel.target, but, parcel.id],
    )
  }

  async count(target: string, but: string): Promise<number> {
    const { rows } = await this.#ask(
      "select count(*)::int as n from endcap_outbox where target = ? and not starts_with(id, ?)",
      [target, but],
    )
    return Number(rows[0]?.["n"] ?? 0)
  }

  async aged(ms: number, but: string): Promise<{ id: string; target: string }[]> {
    const { rows } = await this.#ask("select id, target from endcap_outbox where created_at < now() - ? * interval '1 ms' and target <> ?", [ms, but])
    return rows as { id: string; target: string }[]
  }
}
