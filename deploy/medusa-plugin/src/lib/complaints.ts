/** Texts that are remembered; while there are so many, nothing new is said. */
export const TEXTS_MAX = 100
/** After this time a text is said again: an owner who looks into the log finds it, and no log is filled by it. */
export const AGAIN_MS = 3_600_000

/** Says each text once an hour. */
export class Complaints {
  /** When each was said, the oldest first. */
  readonly #said = new Map<string, number>()

  constructor(
    private readonly say: (text: string) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  add(text: string): void {
    const now = this.now()
    for (const [old, at] of this.#said) {
      if (now - at < AGAIN_MS) break
      this.#said.delete(old)
    }
    if (this.#said.has(text) || this.#said.size >= TEXTS_MAX) return
    this.#said.set(text, now)
    this.say(text)
  }
}
