// src/admin/widgets/events.tsx of a Medusa backend: the last ten things that happened, above the list of orders.
// What the page shows is loaded anew, once for all that comes within a second: an import tells of a thousand products.
import { defineWidgetConfig } from "@medusajs/admin-sdk"
import { Container, Heading, Text } from "@medusajs/ui"
import { useQueryClient } from "@tanstack/react-query"
import { useEffect, useState } from "react"
// @ts-ignore: src/admin/lib/listen.js is plain JavaScript
import { listen } from "../lib/listen"

declare const __ENDCAP_EVENTS_URL__: string // see deploy/README.md
const COLLECT_MS = 1000
type Told = { id: string; event: string; ids: string[]; action: string; truncated?: boolean }

const Events = () => {
  const [events, setEvents] = useState<Told[]>([])
  const queries = useQueryClient()
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const reload = () => {
      timer = undefined
      queries.invalidateQueries()
    }
    const ticket = async () => {
      const answer = await fetch("/admin/events/ticket", { method: "POST" })
      if (!answer.ok) throw new Error(`no ticket: ${answer.status}`)
      return (await answer.json()).ticket
    }
    const tell = (told: Told) => {
      setEvents((before) => [told, ...before].slice(0, 10))
      timer ??= setTimeout(reload, COLLECT_MS)
    }
    const end = listen({ url: __ENDCAP_EVENTS_URL__, ticket, tell })
    return () => {
      end()
      clearTimeout(timer)
    }
  }, [queries])
  return (
    <Container>
      <Heading level="h2">Just now</Heading>
      {events.map(({ id, event, ids, truncated }) => (
        <Text key={id} size="small">{event} {ids.join(" ")}{truncated && " …"}</Text>
      ))}
    </Container>
  )
}

export const config = defineWidgetConfig({ zone: "order.list.before" })
export default Events
