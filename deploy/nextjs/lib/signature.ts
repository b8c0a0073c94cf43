import { createHmac, timingSafeEqual } from "node:crypto"

/** How far the sender's clock may be away. */
const TOLERANCE_S = 300

/** Whether a request is signed with this secret (`whsec_` and base64), by Standard Webhooks. */
export function isSigned(headers: Headers, body: string, secret: string | undefined): boolean {
  const [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => headers.get(name) ?? "")
  if (!secret?.startsWith("whsec_") || !id || !(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_S)) return false
  const key = Buffer.from(secret.slice("whsec_".length), "base64")
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest()
  return signatures.split(" ").some((signature) => {
    const [version, text] = signature.split(",")
    const given = Buffer.from(text ?? "", "base64")
    return version === "v1" && given.length === expected.length && timingSafeEqual(given, expected)
  })
}
