import { randomUUID } from "node:crypto"
import { DEAD, DeadMan } from "./deadman"
import { Outcome } from "./deliver"
import { everything, halves } from "./events"
import { inTime, MemoryStore, Parcel, Store } from "./store"
import { CLOCK } from "./windows"

export type Log = { info(text: string): void; warn(text: string): void; error(text: string): void }

/** Parcels that one target may have waiting; beyond it they are folded into one that says "everything". */
export const PARCELS_MAX = 1_000
/** Deliveries under way to one target. */
const SENDS_MAX = 4
/** Parcels that are moved from memory to the table in one statement. */
const MOVED_AT_ONCE = 50
/** While one process delivers a parcel, no other takes it. Longer than an attempt may take. */
const LEASE_MS = 30_000
/** How often each process looks for parcels that another one left behind. */
const POLL_MS = 5_000
/** So late at the most a store may have what is given back, and it is found when the target has rested. */
const LATE_MS = 1_000
/** What was kept for longer than this when a process starts is given up. */
const AGED_MS = 2 * 86_400_000
/** The shortest time between two lines that say the same of what a target refuses. */
const REFUSAL_MS = 60_000
/** The shortest and the longest pause after a failure. */
const PAUSE_MS = [200, 30_000] as const

/** One endcap, as this process sees it. */
type Target = {
  url: string
  /** Deliveries under way, and places held for those that are being claimed. */
  sends: number
  /** Something may be due in a store that nobody was sent to fetch. */
  waits: boolean
  /** Failures in a row. */
  failures: number
  /** Rests after a failure, until the timer ends it. */
  rests: boolean
  timer?: NodeJS.Timeout
  /** What waits is being counted; and has more come since? */
  counts?: Promise<void>
  hasMore?: boolean
  /** Why the last delivery failed. */
  problem?: string
  /** What it last did not understand, when that was said, and whether it took something since: then it is said again. */
  refusal?: { why: string; at: number; isOver: boolean }
  /** Deliveries that it took. */
  taken: number
}

export type TargetStatus = { url: string; pending: number; problem?: string; taken: number }

/**
 * Keeps parcels until endcap has them. A target that fails rests for a while that doubles, with jitter; order does not
 * matter, so nothing waits behind a parcel that fails.
 */
export class Outbox {
  readonly deadMan: DeadMan
  readonly #targets: Target[]
  /** The table, or what stands for it. */
  readonly #store: Store
  readonly #memory: MemoryStore
  readonly #attempts = new Set<Promise<void>>()
  #poll?: NodeJS.Timeout
  #moves?: Promise<void>
  #stopped = false
  /** The table is out of reach, so parcels are kept in memory. */
  #adrift = false
  /** It did not answer when it was last asked for parcels: then only the clock asks. */
  #isMute = false
  /** Memory holds some. */
  #holds = false

  constructor(
    targets: string[],
    store: Store,
    private readonly send: (parcel: Parcel) => Promise<Outcome>,
    private readonly log: Log,
    private readonly random: () => number = Math.random,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#targets = targets.map((url) => ({ url, sends: 0, waits: false, failures: 0, rests: false, taken: 0 }))
    this.#store = inTime(store)
    this.#memory = new MemoryStore(now)
    this.deadMan = new DeadMan(targets, this.#store, (error) => this.#lost(error))
  }

  /** Begins to look for parcels of other processes, and of those that died. */
  start(): void {
    this.#poll = setInterval(() => void this.#look(), POLL_MS)
    this.#poll.unref()
    void this.#giveUp()
      .catch((error) => this.#lost(error))
      .then(() => this.#look())
  }

  /** Stops when what is under way has ended; what is kept stays for the next process. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#poll)
    this.#targets.forEach((target) => clearTimeout(target.timer))
    await this.#leave()
    await Promise.all(this.#attempts)
    // What those left in memory.
    await this.#leave()
  }

  async #leave(): Promise<void> {
    // One that is under way may be past what came since.
    await this.#moves
    await this.#move()
    await this.deadMan.rest()
  }

  /** Keeps these bodies for every target, and sends at once what finds room. Resolves when they are kept. */
  async add(texts: string[]): Promise<void> {
    await Promise.all(this.#targets.map((target) => this.#accept(target, texts)))
  }

  /** What is sent while it is kept is leased from the start, so that nobody else takes it. What finds no room is due. */
  async #accept(target: Target, texts: string[]): Promise<void> {
    const parcels = texts.map((body) => fresh(target.url, body))
    const room = target.failures > 0 ? 0 : Math.max(0, this.#room(target))
    const [first, rest] = [parcels.slice(0, room), parcels.slice(room)]
    const kept = this.#keep(first, LEASE_MS)
    for (const parcel of first) this.#begin(target, kept, parcel)
    await Promise.all([kept, this.#keep(rest, 0)])
    if (rest.length === 0) return
    target.waits = true
    void this.#bound(target).then(() => this.#pump(target))
  }

  async status(): Promise<TargetStatus[]> {
    return Promise.all(
      this.#targets.map(async ({ url, problem, taken, sends }) => {
        const kept = await this.#store.count(url, DEAD).catch(() => sends)
        const pending = kept + (this.#store === this.#memory ? 0 : await this.#memory.count(url, DEAD))
        return { url, pending, taken, ...(problem === undefined ? {} : { problem }) }
      }),
    )
  }

  /** What nobody fetched for long is told in one: everything. An endcap that this process does not know is another's to tell. */
  async #giveUp(): Promise<void> {
    const aged = await this.#store.aged(AGED_MS, CLOCK)
    for (const url of new Set(aged.map(({ target }) => target))) {
      const ids = aged.filter(({ target }) => target === url).map(({ id }) => id)
      const isKnown = this.#targets.some((target) => target.url === url)
      const end = isKnown ? "its cache is emptied instead" : "it is no url of this plugin"
      this.log.warn(`endcap: what was kept for ${url} for more than two days (${ids.length}) is given up; ${end}`)
      // First, so that who dies in between leaves them to be found again.
      if (isKnown) await this.#store.put([fresh(url, everything())], 0)
      await this.#store.drop(ids)
    }
  }

  /** Keeps parcels in the table, or in memory where that is out of reach, and says where. Never fails. */
  async #keep(parcels: Parcel[], delayMs: number): Promise<Store> {
    try {
      await this.#put(parcels, delayMs)
      return this.#store
    } catch {
      await this.#memory.put(parcels, delayMs)
      this.#hold()
      return this.#memory
    }
  }

  async #put(parcels: Parcel[], delayMs: number): Promise<void> {
    if (parcels.length === 0) return
    try {
      await this.#store.put(parcels, delayMs)
      if (this.#adrift) this.log.info("endcap: the outbox table can be reached again")
      this.#adrift = this.#isMute = false
    } catch (error) {
      this.#lost(error)
      throw error
    }
  }

  /** Looks for what others left behind, and whether the table takes what is in memory. */
  async #look(): Promise<void> {
    await this.#move()
    this.#targets.forEach((target) => void this.#pump(target, true))
  }

  /**
   * Moves what memory holds to the table, never twice at once. What is sent from there meanwhile is sent twice with one id,
   * which does no harm.
   */
  #move(): Promise<void> {
    this.#moves ??= this.#moveAll().finally(() => (this.#moves = undefined))
    return this.#moves
  }

  async #moveAll(): Promise<void> {
    if (!this.#holds) return
    for (const target of this.#targets) {
      if (!(await this.#moveThose(target))) break
    }
    this.#hold()
  }

  /** Is there nothing left to move to this target? */
  async #moveThose(target: Target): Promise<boolean> {
    for (let count = MOVED_AT_ONCE; count === MOVED_AT_ONCE; ) {
      const parcels = await this.#memory.claim(target.url, MOVED_AT_ONCE, 0)
      if (!(await this.#put(parcels, 0).then(() => true, () => false))) return false
      await this.#memory.drop(parcels.map(({ id }) => id))
      count = parcels.length
      target.waits ||= count > 0
    }
    if (target.waits) await this.#bound(target)
    return true
  }

  /** While memory holds any, that is work in hand: the dead man's parcel vouches for it. */
  #hold(): void {
    const holds = this.#memory.size > 0
    if (holds === this.#holds) return
    this.#holds = holds
    if (holds) this.deadMan.take()
    else this.deadMan.give()
  }

  #lost(error: unknown): void {
    if (!this.#adrift) this.log.warn(`endcap: the outbox table cannot be reached, so what is not delivered is kept in memory until it can: ${text(error)}`)
    this.#adrift = true
  }

  /** What finds no room waits: for a target that fails, or that is slower than the shop. Counted once at a time. */
  #bound(target: Target): Promise<void> {
    target.hasMore = true
    target.counts ??= this.#count(target)
    return target.counts
  }

  async #count(target: Target): Promise<void> {
    while (target.hasMore) {
      target.hasMore = false
      for (const store of [this.#store, this.#memory]) await this.#fold(target, store).catch((error) => this.#lost(error))
    }
    // In the same step as the last look, so that none comes in between.
    delete target.counts
  }

  async #fold(target: Target, store: Store): Promise<void> {
    const count = await store.count(target.url, DEAD).catch(() => 0)
    if (count <= PARCELS_MAX) return
    this.log.warn(`endcap: more than ${PARCELS_MAX} deliveries wait for ${target.url}; they are folded into one that empties its cache`)
    await store.fold(fresh(target.url, everything()), DEAD)
  }

  /** Deliveries that may begin. */
  #room(target: Target): number {
    if (this.#stopped || target.rests) return 0
    return (target.failures > 0 ? 1 : SENDS_MAX) - target.sends
  }

  /** Sends what is due, as long as there is room and the target does not rest. */
  async #pump(target: Target, byClock = false): Promise<void> {
    const { waits } = target
    let isMissed = false
    target.waits = false
    for (const store of [this.#store, this.#memory]) {
      if (store === this.#store && this.#isMute && !byClock) {
        isMissed = true
        continue
      }
      const room = this.#room(target)
      if (room <= 0) {
        target.waits = true
        return
      }
      // A look for what others left holds one place, so that what comes meanwhile finds room. Held before the first await,
      // so that two calls do not both think that there is room.
      const most = store === this.#memory || (waits && !this.#isMute) ? room : 1
      target.sends += most
      const parcels = await this.#claim(store, target, most)
      target.sends -= most
      for (const parcel of parcels ?? []) this.#begin(target, store, parcel)
      target.waits ||= parcels?.length === most
      isMissed ||= !parcels
    }
    const { waits: isMore } = target
    // Not at once: what the table did not tell of is asked for by the clock, or when it takes something.
    target.waits ||= isMissed
    // What was kept since the claim is not in it.
    if (isMore) await this.#pump(target)
  }

  async #claim(store: Store, { url }: Target, most: number): Promise<Parcel[] | undefined> {
    try {
      const parcels = await store.claim(url, most, LEASE_MS)
      if (store === this.#store) this.#isMute = false
      return parcels
    } catch {
      this.#isMute = true
      return undefined
    }
  }

  #begin(target: Target, kept: Store | Promise<Store>, parcel: Parcel): void {
    target.sends += 1
    const attempt = this.#attempt(target, kept, parcel).finally(() => this.#attempts.delete(attempt))
    this.#attempts.add(attempt)
  }

  async #attempt(target: Target, kept: Store | Promise<Store>, parcel: Parcel): Promise<void> {
    const outcome = await this.#trySend(parcel)
    // Not before it is kept: what is dropped first would be kept for good.
    const store = await kept
    // Where this fails the lease runs out and the parcel is sent again, which does no harm.
    await this.#settle(target, store, parcel, outcome).catch((error) => this.#lost(error))
    this.#hold()
    target.sends -= 1
    if (target.waits) void this.#pump(target)
  }

  /** What cannot even be tried is tried again. */
  async #trySend(parcel: Parcel): Promise<Outcome> {
    try {
      return await this.send(parcel)
    } catch (error) {
      return { kind: "later", why: `cannot be told: ${text(error)}` }
    }
  }

  async #settle(target: Target, store: Store, parcel: Parcel, outcome: Outcome): Promise<void> {
    // Nothing is wider than everything: that is sent until it is taken.
    const isRefused = outcome.kind === "refused" || outcome.kind === "large"
    if (isRefused && parcel.body === everything()) outcome = { kind: "later", why: "refuses even the delivery that empties its cache: are endcap and this plugin of one version?" }
    if (outcome.kind === "later") {
      const pause = this.#rest(target, outcome)
      // Due before the target has rested, so that it is found then, though the table has this late. What is in memory is
      // due at once, so that it can be moved.
      return store.release(parcel.id, store === this.#memory ? 0 : pause - Math.min(pause / 2, LATE_MS))
    }
    if (target.problem !== undefined) this.log.info(`endcap: ${target.url} takes deliveries again`)
    target.failures = 0
    delete target.problem
    if (outcome.kind === "taken") {
      target.taken += 1
      // What stands in for what was refused is always taken.
      if (target.refusal && parcel.body !== everything()) target.refusal.isOver = true
    }
    const instead = this.#instead(target, parcel, outcome).map((body) => fresh(target.url, body))
    await this.#keep(instead, 0)
    target.waits ||= instead.length > 0
    await store.drop([parcel.id])
  }

  /** What goes in the place of a parcel that is done with, or in part. What cannot be told in detail empties the cache. */
  #instead(target: Target, parcel: Parcel, outcome: Exclude<Outcome, { kind: "later" }>): string[] {
    if (outcome.kind === "taken") return []
    const parts = outcome.kind === "large" ? halves(parcel.body) : []
    if (parts.length > 0) return parts
    const why = outcome.kind === "large" ? "refuses a delivery of a single event for its size: raise body_max of its [hooks] section" : outcome.why
    const isLast = parcel.body === everything()
    const end = isLast ? "Its cache learns of changes by age alone" : "Its cache is emptied instead"
    const { refusal } = target
    if (refusal?.why !== why || (refusal.isOver && this.now() - refusal.at >= REFUSAL_MS)) {
      this.log.error(`endcap: ${target.url} ${why}. ${end}`)
      target.refusal = { why, at: this.now(), isOver: false }
    }
    return isLast ? [] : [everything()]
  }

  #rest(target: Target, { why, after }: { why: string; after?: number }): number {
    const [least, most] = PAUSE_MS
    const full = Math.min(most, least * 2 ** Math.min(target.failures, 20))
    const pause = Math.max(after ?? 0, full * (0.5 + this.random() / 2))
    target.failures += 1
    target.rests = target.waits = true
    clearTimeout(target.timer)
    target.timer = setTimeout(() => {
      target.rests = false
      void this.#pump(target)
    }, pause)
    target.timer.unref()
    if (target.problem !== why) this.log.warn(`endcap: ${target.url} ${why}. What changed is kept and sent again until it is taken`)
    target.problem = why
    return pause
  }
}

/** A parcel that nobody knows yet. */
function fresh(target: string, body: string): Parcel {
  return { id: `msg_${randomUUID()}`, target, body }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
