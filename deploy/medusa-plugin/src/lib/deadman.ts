import { randomUUID } from "node:crypto"
import { everything } from "./events"
import { Store } from "./store"

/** A dead man's parcel is due after this time, unless it is put off or called off. */
const DEAD_MS = 30_000
/** How the ids of such parcels begin. */
export const DEAD = "dead-man:"

/**
 * The *dead man's parcel* covers what is not in the store yet: while this process has work in hand, the store holds a
 * parcel for each endcap that says "everything", due in half a minute, and this process keeps putting it off. When the
 * process dies, nobody does.
 */
export class DeadMan {
  /** What lies in the store. */
  #armed: string[] = []
  /** What is to be done next, the last word on it. */
  #wish?: "arm" | "disarm"
  #busy?: Promise<void>

  constructor(
    private readonly targets: string[],
    private readonly store: Store,
    private readonly lost: (error: unknown) => void,
  ) {}

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
    await this.store.put(parcels, DEAD_MS)
    const old = this.#armed
    this.#armed = parcels.map((parcel) => parcel.id)
    if (old.length > 0) await this.store.drop(old)
  }

  async #drop(): Promise<void> {
    if (this.#armed.length === 0) return
    await this.store.drop(this.#armed)
    this.#armed = []
  }
}
