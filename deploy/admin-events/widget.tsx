// src/admin/widgets/events.tsx of a Medusa backend: the last ten things that happened, above the list of orders.
import { defineWidgetConfig } from "@medusajs/admin-sdk"
import { Container, Heading, Text } from "@medusajs/ui"
import { useQueryClient } from "@tanstack/react-query"
import { useEffect, useState } from "react"
import { listen } from "../lib/listen"

declare const __ENDCAP_EVENTS_URL__: string // see deploy/README.md
type Told = { id: string; event: string; ids: string[]; action: string; truncated?: boolean }

const Events = () => {
  const [events, setEvents] = useState<Told[]>([])
  const queries = useQueryClient()
  useEffect(() => {
    const ticket = async () => (await (await fetch("/admin/events/ticket", { method: "POST" })).json()).ticket
    const tell = (told: Told) => {
      setEvents((before) => [told, ...before].slice(0, 10))
      queries.invalidateQueries()
    }
    return listen({ url: __ENDCAP_EVENTS_URL__, ticket, tell })
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
