// endcap tells the storefront what changed, after it and the CDN have forgotten it.
import { revalidateTag } from "next/cache"
import { isSigned } from "@/lib/signature"

export async function POST(request: Request) {
  const text = await request.text()
  if (!isSigned(request.headers, text, process.env.ENDCAP_REVALIDATE_SECRET)) return new Response(null, { status: 401 })
  const { tags, everything } = JSON.parse(text) as { tags: string[]; everything: boolean }
  // At once: with a profile such as "max" the next visitor would still see the old page. Twice does no harm.
  for (const tag of everything ? ["all"] : tags) revalidateTag(tag, { expire: 0 })
  return new Response(null, { status: 204 })
}
