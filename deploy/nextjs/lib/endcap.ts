// What the storefront asks the shop for, through endcap, and kept here until endcap says that it changed.
import { cacheLife, cacheTag } from "next/cache"
import { lifeOf, tagsOf } from "./tags"

/** An answer of the shop's, and when it was fetched. The path begins with `/store/`. For what is everybody's alone. */
export async function fromShop<T>(path: string): Promise<{ body: T; asOf: number }> {
  "use cache"
  const key = process.env.MEDUSA_PUBLISHABLE_KEY ?? ""
  const response = await fetch(`${process.env.ENDCAP_URL}${path}`, { headers: { "x-publishable-api-key": key } })
  // What is thrown is not kept.
  if (!response.ok) throw new Error(`${path}: ${response.status}`)
  const body = (await response.json()) as T
  const tags = tagsOf(path, key, body)
  cacheTag(...tags)
  cacheLife(lifeOf(tags, /detail=stale/.test(response.headers.get("cache-status") ?? "")))
  return { body, asOf: Date.now() }
}
