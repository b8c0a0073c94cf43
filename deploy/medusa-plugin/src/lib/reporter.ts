import { adminEvents, route, Written } from "./admin"
import { asUpdate } from "./content"
import { bodies, Event, EVERYTHING, EventSet } from "./events"
import { Outbox, TargetStatus } from "./outbox"
import { answer } from "./store"
import { idOf, odd, things } from "./things"

/** What the reporter needs of the shop around it. */
export type Shop = {
  /** Is an event of this name sent? */
  sends: (name: string) => boolean
  /** And if not: are those told of it who listen to endcap's events? */
  tells: (name: string) => boolean
  /** Replaces rows that nobody sees by what is seen; see `resolve.ts`. */
  resolve: (events: Event[]) => Promise<Event[]>
  /** Makes Medusa's own cache forget what it missed; see `caching.ts`. */
  clear: (events: Event[]) => Promise<void>
  /** Says something to the owner of the shop, once an hour. */
  complain: (text: string) => void
  log: { warn(text: string): void }
}

export type Status = { idle: boolean; targets: TargetStatus[] }

/** Events that are collected before they are sent together: a workflow releases all of its own in one moment, and each ms of
 * this is one that shoppers are answered the old. */
export const WINDOW_MS = 5
/** Different events that are collected; beyond it everything may have changed. */
export const EVENTS_MAX = 50_000
/** What the shop around is asked may take this long; then events go as they are. */
const ASK_MS = 5_000
/** Moments that are told side by side, so that one slow lookup does not hold up what it has nothing to do with. */
export const FLUSHES_MAX = 4

/** Collects events and finished requests, resolves them, and gives them to the outbox. Never fails, never waits. */
export class Reporter {
  readonly #set = new EventSet()
  /** Admin requests that have not ended. */
  #requests = 0
  #window?: NodeJS.Timeout
  /** Under way. */
  #flushing = 0
  readonly #flushes = new Set<Promise<void>>()
  /** Stopped: what still comes is kept at once, and as it is. */
  #isOver = false

  constructor(private readonly shop: Shop, private readonly outbox: Outbox) {}

  /** An event was released, alone or in the group of a workflow. */
  event(name: string, data: unknown, group?: string): void {
    if (!this.shop.sends(name)) {
      if (this.shop.tells(name)) this.#collect(things(data).map((thing) => ({ type: name, data: idOf(name, thing) })))
      return
    }
    const oddity = odd(name, data)
    if (oddity !== undefined) this.shop.complain(oddity)
    this.#collect(things(data).map((thing) => asUpdate({ type: name, data: thing }, group)))
  }

  /** An admin request begins that may write. Call what is returned when it has ended. */
  begins(): (written?: Written) => void {
    const over = this.inHand()
    this.#requests += 1
    let ended = false
    return (written) => {
      if (ended) return
      ended = true
      this.#requests -= 1
      if (written) this.#finished(written)
      over()
    }
  }

  /** Something may be committed that is not told yet: a parcel vouches for it until what is returned is called, once. */
  inHand(): () => void {
    this.outbox.deadMan.take()
    return () => this.outbox.deadMan.give()
  }

  /** Tells of events that were collected elsewhere. Resolves when what is to be said of them is kept. */
  async tell(events: Event[]): Promise<void> {
    if (this.#isOver) return this.outbox.add(bodies(events))
    const seen = await this.#ask(this.shop.resolve(events), events)
    await this.#ask(this.shop.clear(events), undefined).catch((error) =>
      this.shop.complain(`Medusa's own cache could not be told, so what it keeps may be old, and endcap fetches that: ${error instanceof Error ? error.message : error}`),
    )
    await this.outbox.add(bodies(seen))
  }

  async status(): Promise<Status> {
    const targets = await this.outbox.status()
    const isCollecting = this.#requests > 0 || this.#window !== undefined || this.#flushing > 0
    return { idle: !isCollecting && targets.every((target) => target.pending === 0), targets }
  }

  /** Keeps what was collected, for at most as long as the shop is willing to wait. */
  async stop(): Promise<void> {
    await this.#settle()
    this.#isOver = true
    await this.outbox.stop()
    // What came meanwhile.
    await this.#settle()
  }

  /** For some seconds at the most: a job may go on for as long as it likes. */
  #settle(): Promise<void> {
    return answer(this.#flushAll()).catch(() => {})
  }

  async #flushAll(): Promise<void> {
    while (this.#window !== undefined || this.#flushes.size > 0) {
      if (this.#window !== undefined) this.#flush()
      await Promise.all(this.#flushes)
    }
  }

  #finished(written: Written): void {
    const events = adminEvents(written) ?? [EVERYTHING]
    if (written.status >= 400 && events.length > 0) {
      this.shop.complain(`${route(written)} failed with ${written.status}: what it wrote may have been undone half-way, so answers that show what it names, and lists of such, are fetched anew`)
    }
    this.#collect(events)
  }

  #collect(events: Event[]): void {
    for (const event of events) this.#set.add(event)
    if (this.#set.size > EVENTS_MAX) {
      this.#set.take()
      this.#set.add(EVERYTHING)
      this.shop.log.warn(`endcap: more than ${EVENTS_MAX} changes in one moment; its cache is emptied instead of being told each`)
    }
    if (this.#set.size === 0 || this.#window !== undefined || this.#flushing >= FLUSHES_MAX) return
    // Afterwards what comes is kept as soon as a parcel that vouches for it would be.
    if (!this.#isOver) this.outbox.deadMan.take()
    this.#window = setTimeout(() => this.#flush(), this.#isOver ? 0 : WINDOW_MS)
  }

  #flush(): void {
    clearTimeout(this.#window)
    this.#window = undefined
    this.#flushing += 1
    const flush = this.#tellAll().finally(() => this.#flushes.delete(flush))
    this.#flushes.add(flush)
  }

  /** What comes while as many as may be are under way goes with the next that is done, and has no window of its own. */
  async #tellAll(): Promise<void> {
    while (this.#set.size > 0 && this.#window === undefined) await this.#tellSafely(this.#set.take())
    // In the same step as the last look, so that nothing comes in between.
    this.#flushing -= 1
    if (!this.#isOver) this.outbox.deadMan.give()
  }

  async #tellSafely(events: Event[]): Promise<void> {
    try {
      await this.tell(events)
    } catch (error) {
      this.shop.log.warn(`endcap: what changed could not be told, so its cache is emptied: ${error}`)
      await this.outbox.add(bodies([EVERYTHING])).catch(() => undefined)
    }
  }

  async #ask<T>(answer: Promise<T>, otherwise: T): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<T>((resolve) => {
      timer = setTimeout(() => resolve(otherwise), ASK_MS)
    })
    return Promise.race([answer, late]).finally(() => clearTimeout(timer))
  }
}
