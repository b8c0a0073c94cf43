import { createHmac } from "node:crypto"

/** The key of a `whsec_…` secret. Throws, in words for the owner of the shop, when it is none. */
export function secretKey(secret: string): Buffer {
  const base64 = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret)?.[1]
  if (!base64) throw new Error('secret must be "whsec_" and base64, the same text as webhook_secret of endcap')
  return Buffer.from(base64, "base64")
}

/** The three headers of a delivery by Standard Webhooks. A retry keeps its id and is signed anew. */
export function signed(key: Buffer, id: string, seconds: number, body: string): Record<string, string> {
  const mac = createHmac("sha256", key).update(`${id}.${seconds}.${body}`).digest("base64")
  return { "webhook-id": id, "webhook-timestamp": String(seconds), "webhook-signature": `v1,${mac}` }
}
