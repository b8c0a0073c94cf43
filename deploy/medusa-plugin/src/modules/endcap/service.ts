import { clear } from "../../lib/caching"
import { Complaints } from "../../lib/complaints"
import { COLUMNS, Look } from "../../lib/content"
import { deliver } from "../../lib/deliver"
import { Foresight } from "../../lib/foresee"
import { Options, settings } from "../../lib/options"
import { Log, Outbox } from "../../lib/outbox"
import { Reporter, Status } from "../../lib/reporter"
import { resolve } from "../../lib/resolve"
import { Row, rules, Tables } from "../../lib/rules"
import { Bus, watchGroups } from "../../lib/staged"
import { MemoryStore, Sql, TableStore } from "../../lib/store"
import { lookAtLists, PriceClock } from "../../lib/windows"
import { Written } from "../../lib/admin"

/** Medusa's container of everything. */
export type Container = { resolve(name: string, options?: { allowUnregistered?: boolean }): any }

/** An event as the bus hands it to who intercepts. */
type Released = { name: string; data: unknown; metadata?: { eventGroupId?: string } }

const DOES_NOTHING = () => {}

/** The module: it lives as long as the application does, and never lets an error out into the shop. */
export default class EndcapService {
  #reporter?: Reporter
  #clock?: PriceClock
  #foresight?: Foresight
  #look?: Look
  readonly #intercept = ({ name, data, metadata }: Released) => this.#reporter?.event(name, data, metadata?.eventGroupId)

  readonly __hooks = {
    onApplicationStart: () => this.#start(),
    // Not before: while it prepares, Medusa waits for jobs that run, and these release events.
    onApplicationShutdown: () => this.#stop(),
  }

  readonly #options: Options

  constructor(_cradle: unknown, options: Options & { database?: unknown } = {}) {
    // Medusa adds the database to the options of each module.
    const { database: _, ...own } = options
    this.#options = own
  }

  /** An admin request begins that may write; call what is returned when it has ended. */
  begins(method: string, path: string): (written?: Written) => void {
    this.#foresight?.begins(method, path)
    return this.#reporter?.begins() ?? DOES_NOTHING
  }

  /** What products are just now. */
  async products(ids: string[]): Promise<Row[]> {
    return (await this.#look?.(ids)) ?? []
  }

  /** What waits to be taken. Undefined while the plugin is off. */
  async status(): Promise<Status | undefined> {
    return this.#reporter?.status()
  }

  async #start(): Promise<void> {
    const { container } = require("@medusajs/framework") as { container: Container }
    const log = container.resolve("logger") as Log
    try {
      const { reporter, clock, foresight, look, sends } = build(this.#options, container, log)
      this.#reporter = reporter
      this.#clock = clock
      this.#foresight = foresight
      this.#look = look
      const bus = container.resolve("event_bus") as Bus
      // Called when a workflow has committed, in the process that did, before any queue; subscribers come later. All up to here
      // is one step, so that nothing is released before: workers start beside this.
      bus.addInterceptor(this.#intercept)
      watchGroups(bus, sends, () => reporter.inHand())
      clock.start()
    } catch (error) {
      log.error(`endcap: the plugin is off, and caches learn of changes by age alone: ${error instanceof Error ? error.message : error}`)
    }
  }

  /** What is released later is heard all the same, and kept for the next process. */
  async #stop(): Promise<void> {
    await Promise.all([this.#clock?.stop(), this.#reporter?.stop()])
  }
}

function build(options: Options, container: Container, log: Log) {
  const { targets, key, sends, tells, stockInLists, outbox } = settings(options, process.env)
  const knex = container.resolve("__pg_connection__") as { raw: Sql }
  const sql: Sql = (statement, values) => knex.raw(statement, values)
  const kept = outbox === "memory" ? new MemoryStore() : new TableStore(sql)
  const keeper = new Outbox(targets, kept, (parcel) => deliver(parcel.target, key, parcel.id, parcel.body), log)
  keeper.start()
  const table = async ({ table, id, select }: Tables, ids: string[], most: number) =>
    (await sql(`select ${id} as id, ${select} from ${table} where ${id} = any(?) limit ${most}`, [ids])).rows as Row[]
  const look: Look = (ids) => table({ table: "product", id: "id", select: [...COLUMNS, "updated_at"].join(", ") }, ids, ids.length)
  const foresight = new Foresight((id) => table({ table: "api_key", id: "id", select: "type, token" }, [id], 1))
  const reader = { query: container.resolve("query"), table, before: (id: string) => foresight.rows(id) }
  const caching = container.resolve("caching", { allowUnregistered: true })
  const known = rules(stockInLists)
  const complaints = new Complaints((text) => log.warn(`endcap: ${text}`))
  const complain = (text: string) => complaints.add(text)
  const reporter = new Reporter(
    { sends, tells, resolve: (events) => resolve(events, known, reader, complain), clear: (events) => clear(caching, events), complain, log },
    keeper,
  )
  const clock = new PriceClock(kept, (from) => lookAtLists(sql, from), (events) => reporter.tell(events), complain)
  return { reporter, clock, foresight, look, sends }
}
