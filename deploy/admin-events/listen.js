// src/admin/lib/listen.js of a Medusa backend.
// Tells a page what happens in the shop. A ticket is good for a minute, so each connection has its own; the id of the
// last event brings back what was missed in between. "reset" says that something may be missing: load anew.
export function listen({ url, ticket, tell, Source = globalThis.EventSource, pause = 2000 }) {
  let after, source, timer
  const connect = async () => {
    try {
      const address = new URL("/events", url)
      address.searchParams.set("ticket", await ticket())
      if (after) address.searchParams.set("after", after)
      if (timer === null) return
      source = new Source(address.href)
      source.onmessage = ({ data, lastEventId }) => {
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
    if (timer !== null) timer = setTimeout(connect, pause)
  }
  connect()
  return () => {
    source?.close()
    clearTimeout(timer)
    timer = null
  }
}
