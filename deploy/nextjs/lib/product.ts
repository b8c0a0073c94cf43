/** What the pages show of a product. */
export type Product = {
  id: string
  handle: string
  title: string
  variants: { calculated_price: { calculated_amount: number; currency_code: string } }[]
}

/** The fields of it, for an address. */
export const CARD = encodeURIComponent("id,handle,title,*variants.calculated_price")

/** Its lowest price, for the eye. */
export function price({ variants }: Product): string {
  const prices = variants.map((variant) => variant.calculated_price).sort((a, b) => a.calculated_amount - b.calculated_amount)
  return prices.length ? new Intl.NumberFormat("en", { style: "currency", currency: prices[0].currency_code }).format(prices[0].calculated_amount) : ""
}
