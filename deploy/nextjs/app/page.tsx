import Link from "next/link"
import { connection } from "next/server"
import { Suspense } from "react"
import { fromShop } from "@/lib/endcap"
import { type Product, price, CARD } from "@/lib/product"

export default function Home() {
  return (
    <Suspense>
      <Newest />
    </Suspense>
  )
}

async function Newest() {
  // The shop is asked when somebody comes, not when the storefront is built.
  await connection()
  const { body, asOf } = await fromShop<{ products: Product[] }>(`/store/products?limit=12&order=-created_at&region_id=${process.env.MEDUSA_REGION}&fields=${CARD}`)
  return (
    <main data-as-of={asOf}>
      {body.products.map((product) => (
        <p key={product.id}>
          <Link href={`/products/${product.handle}`}>{product.title}</Link> {price(product)}
        </p>
      ))}
    </main>
  )
}
