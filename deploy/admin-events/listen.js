// src/admin/lib/listen.js of a Medusa backend.
// Tells a page what happens in the shop. A ticket is good for a minute, so each connection has its own; the id of the
// last event brings back what was missed in between. "reset" says that something may be missing: load anew.
// It comes back after `pause` ms, and after twice as long with each failure in a row, up to `pauseMax`; by chance up to half
// of that sooner, so that the pages of all admins do not come back in one moment.
export function listen({ url, ticket, tell, Source = globalThis.EventSource, pause = 2000, pauseMax = 60_000, random = Math.random }) {
  let after, source, timer
  let failures = 0
  const connect = async () => {
    try {
      const address = new URL("/events", url)
      address.searchParams.set("ticket", await ticket())
      if (after) address.searchParams.set("after", after)
      if (timer === null) return
      source = new Source(address.href)
      source.onmessage = ({ data, lastEventId }) => {
        failures = 0
        after = lastEventId
        const told = JSON.parse(data)
        if (told.event !== "hello") tell(told)
      }
      source.onerror = again
    } catch {
      again()
    }
  }
  const again = () => {
    source?.close()
    if (timer === null) return
    timer = setTimeout(connect, Math.min(pause * 2 ** failures, pauseMax) * (1 - random() / 2))
    failures += 1
  }
  connect()
  return () => {
    source?.close()
    clearTimeout(timer)
    timer = null
  }
}
