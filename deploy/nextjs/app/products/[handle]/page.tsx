import { notFound } from "next/navigation"
import { Suspense } from "react"
import { fromShop } from "@/lib/endcap"
import { type Product, price, CARD } from "@/lib/product"

type Props = { params: Promise<{ handle: string }> }

export default function Page({ params }: Props) {
  return (
    <Suspense>
      <Details params={params} />
    </Suspense>
  )
}

async function Details({ params }: Props) {
  const { handle } = await params
  const { body, asOf } = await fromShop<{ products: Product[] }>(`/store/products?handle=${encodeURIComponent(handle)}&limit=1&region_id=${process.env.MEDUSA_REGION}&fields=${CARD}`)
  const [product] = body.products
  if (!product) notFound()
  return (
    <main data-as-of={asOf}>
      <h1>{product.title}</h1>
      <p>{price(product)}</p>
    </main>
  )
}
