import { Row } from "./rules"

/** What a request is about to delete for good, so that its event finds no row: API keys. */
const DELETES = /^\/admin\/api-keys\/(apk_[^/?]+)\/?(\?|$)/
/** Rows that are remembered; older ones are forgotten, and what is about them purges more than it must. */
const ROWS_MAX = 100

/**
 * Reads what a request deletes when it begins, without keeping it waiting: the handler has a login to check and more to
 * ask of the database before it deletes. Where it is faster all the same, nothing is known.
 */
export class Foresight {
  readonly #rows = new Map<string, Promise<Row[]>>()

  constructor(private readonly read: (id: string) => Promise<Row[]>) {}

  begins(method: string, path: string): void {
    const id = method === "DELETE" ? DELETES.exec(path)?.[1] : undefined
    if (id === undefined) return
    this.#rows.delete(id)
    this.#rows.set(id, this.read(id).catch(() => []))
    if (this.#rows.size > ROWS_MAX) this.#rows.delete(this.#rows.keys().next().value ?? "")
  }

  async rows(id: string): Promise<Row[] | undefined> {
    const rows = await this.#rows.get(id)
    return rows?.length ? rows : undefined
  }
}
