import { randomUUID } from "node:crypto"
import { everything } from "./events"
import { Store } from "./store"

/** A dead man's parcel is due after this time, unless it is put off or called off. */
const DEAD_MS = 30_000
/** So many of them are remembered while the store does not say what has become of them. */
const ARMED_MAX = 100
/** How the ids of such parcels begin. */
export const DEAD = "dead-man:"
/** Nothing in hand for this long, and it is called off. */
const IDLE_MS = 2_000
/** How often it is put off, well within its half minute. */
const ALIVE_MS = 10_000

/**
 * The *dead man's parcel* covers what is not in the store yet: while this process has work in hand, the store holds a
 * parcel for each endcap that says "everything", due in half a minute, and this process keeps putting it off. When the
 * process dies, nobody does.
 */
export class DeadMan {
  /** What lies in the store, as far as is known. */
  #armed: string[] = []
  /** What is to be done next, the last word on it. */
  #wish?: "arm" | "disarm"
  #busy?: Promise<void>
  /** What this process has in hand: requests, staged events, what was collected, what it keeps in memory alone. */
  #hands = 0
  #alive?: NodeJS.Timeout
  #quiet?: NodeJS.Timeout

  constructor(
    private readonly targets: string[],
    private readonly store: Store,
    private readonly lost: (error: unknown) => void,
  ) {}

  /** Something is in hand from now on. */
  take(): void {
    this.#hands += 1
    clearTimeout(this.#quiet)
    this.#quiet = undefined
    if (this.#alive !== undefined) return
    void this.arm()
    this.#alive = setInterval(() => void this.arm(), ALIVE_MS)
    this.#alive.unref()
  }

  /** One thing less is in hand. */
  give(): void {
    this.#hands -= 1
    if (this.#hands > 0) return
    clearTimeout(this.#quiet)
    this.#quiet = setTimeout(() => void this.rest(), IDLE_MS)
    this.#quiet.unref()
  }

  /** The last that is done of itself: calls them off where nothing is in hand, and else puts them off once more. */
  async rest(): Promise<void> {
    clearTimeout(this.#quiet)
    clearInterval(this.#alive)
    this.#alive = undefined
    await (this.#hands === 0 ? this.disarm() : this.arm())
  }

  /** Puts the parcels off by half a minute. */
  arm(): Promise<void> {
    return this.#do("arm")
  }

  /** Calls them off: all that was in hand is kept. */
  disarm(): Promise<void> {
    return this.#do("disarm")
  }

  /** One after the other, so that what is called off is not put down behind it; of what waits the last wish counts. */
  #do(wish: "arm" | "disarm"): Promise<void> {
    this.#wish = wish
    this.#busy ??= this.#work()
    return this.#busy
  }

  async #work(): Promise<void> {
    for (let wish = this.#wish; wish !== undefined; wish = this.#wish) {
      this.#wish = undefined
      await (wish === "arm" ? this.#renew() : this.#drop()).catch(this.lost)
    }
    // In the same step as the last look at the wish, so that none comes in between.
    this.#busy = undefined
  }

  /** With ids of their own each time: one that was taken may have been taken while its process lives, and is known. */
  async #renew(): Promise<void> {
    const parcels = this.targets.map((target) => ({ id: DEAD + randomUUID(), target, body: everything() }))
    const ids = parcels.map((parcel) => parcel.id)
    // A store that answers too late has them all the same, and so has one that did not drop them.
    this.#armed = [...this.#armed, ...ids].slice(-ARMED_MAX)
    await this.store.put(parcels, DEAD_MS)
    const old = this.#armed.filter((id) => !ids.includes(id))
    if (old.length > 0) await this.store.drop(old)
    this.#armed = ids
  }

  async #drop(): Promise<void> {
    if (this.#armed.length === 0) return
    await this.store.drop(this.#armed)
    this.#armed = []
  }
}
