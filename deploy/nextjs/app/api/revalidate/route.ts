// app/api/revalidate/route.ts of a Next.js storefront: endcap tells it what changed, after it and the CDN have forgotten it.
// The storefront names what it fetches by endcap's tags: fetch(url, { next: { tags: [`${product.id}`, "list:product"] } }).
import { createHash, timingSafeEqual } from "node:crypto"
import { revalidatePath, revalidateTag } from "next/cache"

const digest = (text: string) => createHash("sha256").update(text).digest()

export async function POST(request: Request) {
  const secret = process.env.ENDCAP_REVALIDATE_TOKEN
  const given = request.headers.get("authorization") ?? ""
  if (!secret || !timingSafeEqual(digest(given), digest(`Bearer ${secret}`))) {
    return new Response(null, { status: 401 })
  }
  const { tags, everything } = (await request.json()) as { tags: string[]; everything: boolean }
  if (everything) revalidatePath("/", "layout")
  // At once: with a profile such as "max" the next visitor would still see the old page. (Next.js 15 takes the tag alone.)
  for (const tag of tags) revalidateTag(tag, { expire: 0 })
  return Response.json({ revalidated: tags.length })
}
