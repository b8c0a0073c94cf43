/** An event on its way into the bus. */
type Emitted = { name: string; metadata?: { eventGroupId?: string } }

/** Medusa's event bus, as far as it is used here. */
export type Bus = {
  addInterceptor(interceptor: (released: any) => void): unknown
  emit(events: Emitted | Emitted[], ...more: unknown[]): Promise<unknown>
  releaseGroupedEvents(group: string): Promise<unknown>
  clearGroupedEvents(group: string, some?: { eventNames?: string[] }): Promise<unknown>
}

/** A group that stages nothing for this long was released by another process, or never will be; Medusa's Redis bus forgets it then, too. */
export const GROUP_MS = 600_000

/**
 * The steps of a workflow commit and *stage* their events in a group, which is released when all are done, or dropped where they
 * were undone. In between nobody but the bus knows of the change: so from its first event on a group is work in hand. The bus
 * tells nobody of that, so its methods are wrapped.
 */
export function watchGroups(bus: Bus, counts: (name: string) => boolean, inHand: () => () => void): void {
  const staged = new Map<string, { over: () => void; timer: NodeJS.Timeout }>()
  const end = (group: string): void => {
    const known = staged.get(group)
    if (!known) return
    staged.delete(group)
    clearTimeout(known.timer)
    known.over()
  }
  const stage = (group: string): void => {
    const known = staged.get(group)
    clearTimeout(known?.timer)
    staged.set(group, { over: known?.over ?? inHand(), timer: setTimeout(() => end(group), GROUP_MS).unref() })
  }
  const groups = (events: Emitted[]) => events.flatMap((event) => (counts(String(event?.name)) ? (event?.metadata?.eventGroupId ?? []) : []))
  const { emit, releaseGroupedEvents, clearGroupedEvents } = bus
  bus.emit = (events, ...more) => {
    // An import stages thousands at once.
    for (const group of new Set(groups([events].flat()))) stage(group)
    return emit.call(bus, events, ...more)
  }
  bus.releaseGroupedEvents = async (group) => {
    const released = await releaseGroupedEvents.call(bus, group)
    end(group)
    return released
  }
  bus.clearGroupedEvents = async (group, some) => {
    const cleared = await clearGroupedEvents.call(bus, group, some)
    if (!some?.eventNames?.length) end(group)
    return cleared
  }
}
