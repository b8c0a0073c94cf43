// src/api/admin/events/ticket/route.ts of a Medusa backend: only who is logged in as an admin gets a ticket, and the
// token stays on the server.
import type { MedusaRequest, MedusaResponse } from "@medusajs/framework/http"

export async function POST(_req: MedusaRequest, res: MedusaResponse) {
  const answer = await fetch(`${process.env.ENDCAP_OPS_URL}/events/ticket`, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.ENDCAP_FEED_TOKEN}` },
  })
  res.status(answer.status).json(await answer.json())
}
