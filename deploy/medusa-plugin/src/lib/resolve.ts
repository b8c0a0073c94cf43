import { Event, EventSet, Notice } from "./events"
import { Row, Rule, Tables } from "./rules"

/** Medusa's `query`, as far as it is used here. */
export type Query = {
  graph(ask: { entity: string; fields: string[]; filters: { id: string[] }; withDeleted: boolean }): Promise<{ data: Row[] }>
}

/** Rows asked for at once. */
const ROWS_MAX = 500
/** Events that one row may become; beyond it the event is sent as it is. */
const WIDTH_MAX = 2_000

/** Rows read at once, at the most: a price list may have a price for each variant of a large shop. */
const READ_MAX = 20_000

/** Reads rows from the graph, or so many at the most from tables, each with its `id`; `before` knows some that are gone. */
export type Reader = {
  query: Query
  table: (from: Tables, ids: string[], most: number) => Promise<Row[]>
  before: (id: string) => Promise<Row[] | undefined>
}

/** Replaces each event that names a row nobody sees by what is seen. */
export async function resolve(events: Event[], rules: Rule[], reader: Reader, complain: (text: string) => void): Promise<Event[]> {
  const groups = new Map<Rule | undefined, Event[]>()
  for (const one of events) {
    const rule = one.data["id"] === undefined ? undefined : rules.find((rule) => rule.events.test(one.type))
    push(groups, rule, one)
  }
  const found: Event[] = []
  for (const [rule, group] of groups) {
    if (!rule) {
      found.push(...group)
      continue
    }
    for (let at = 0; at < group.length; at += ROWS_MAX) {
      found.push(...(await replace(rule, group.slice(at, at + ROWS_MAX), reader, complain)))
    }
  }
  return found
}

async function replace(rule: Rule, group: Event[], reader: Reader, complain: (text: string) => void): Promise<Event[]> {
  const ids = [...new Set(group.flatMap((one) => one.data["id"] ?? []))]
  const rows = new Map<string, Row[]>()
  try {
    const { from } = rule
    const read =
      "entity" in from
        ? (await reader.query.graph({ ...from, filters: { id: ids }, withDeleted: true })).data
        : await reader.table(from, ids, READ_MAX + 1)
    if (read.length > READ_MAX) {
      complain(`${group[0]?.type} is about more than ${READ_MAX} rows, so endcap purges more than it must`)
      return group
    }
    for (const row of read) push(rows, row["id"], row)
    for (const id of ids) if (!rows.has(id)) await reader.before(id).then((known) => known && rows.set(id, known))
  } catch (error) {
    complain(`what ${group[0]?.type} is about cannot be read, so endcap purges more than it must: ${error instanceof Error ? error.message : error}`)
    return group
  }
  return group.flatMap((one) => {
    const mine = rows.get(one.data["id"] ?? "")
    const seen = mine?.flatMap((row) => rule.read(row, one))
    if (!seen && one.isGuess) return []
    if (!seen) {
      complain(`${one.type} is about what is not there, or not any more, so endcap purges more than it must`)
      return [one]
    }
    const set = new EventSet()
    seen.forEach((event) => set.add(event))
    return set.size <= WIDTH_MAX ? set.take().map((event, at) => (event === one ? one : { ...event, notice: at === 0 ? notice(one) : null })) : [one]
  })
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list) list.push(value)
  else lists.set(key, [value])
}

/** What was looked up is told by its own name, once. */
function notice({ type, data: { id }, notice }: Event): Notice | null {
  return notice !== undefined ? notice : { event: type, ...(id === undefined ? {} : { id }) }
}
