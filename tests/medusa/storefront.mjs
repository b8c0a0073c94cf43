// What the official storefront asks for, page by page, by its own client: the calls of medusajs/dtc-starter.

export const CARD = "*variants.calculated_price,+variants.inventory_quantity,*variants.images,*variants.options,+metadata,+tags,"

/** The pages, each a function of the client; `s` is what they are about (see mutations.mjs). */
export function pages({ eu, product, collections, category }) {
  const list = (sdk, query) => sdk.store.product.list({ limit: 12, offset: 0, region_id: eu, fields: CARD, ...query })
  return {
    layout: async (sdk) => {
      await sdk.store.region.list()
      await sdk.store.locale.list()
      await sdk.store.collection.list({ fields: "*products", limit: "100", offset: "0" })
      await sdk.store.category.list({ fields: "*category_children, *products, *parent_category, *parent_category.parent_category", limit: 100 })
    },
    home: async (sdk) => {
      await sdk.store.collection.list({ fields: "id, handle, title", limit: "100", offset: "0" })
      for (const id of collections.slice(0, 3)) await list(sdk, { collection_id: id, fields: "*variants.calculated_price" })
    },
    store: (sdk) => list(sdk, { limit: 100, order: "created_at" }),
    category: async (sdk) => {
      await sdk.store.category.list({ fields: "*category_children, *products", handle: category.handle })
      await list(sdk, { limit: 100, category_id: [category.id], order: "created_at" })
    },
    collection: async (sdk) => {
      await sdk.store.collection.list({ handle: "collection-1", fields: "*products" })
      await list(sdk, { limit: 100, collection_id: [collections[0]] })
    },
    product: async (sdk) => {
      await list(sdk, { handle: product.handle })
      await list(sdk, { id: [product.id] })
      await list(sdk, { collection_id: [product.collection_id], tag_id: product.tags.map(({ id }) => id), is_giftcard: false })
    },
    filtered: (sdk) => list(sdk, { limit: 100, option_value_id: product.options.flatMap(({ values }) => values.map(({ id }) => id)) }),
    details: async (sdk) => {
      await sdk.store.region.retrieve(eu)
      await sdk.store.collection.retrieve(collections[0])
      await sdk.store.category.retrieve(category.id, { include_descendants_tree: true, fields: "id,name,*category_children" })
      await sdk.store.product.retrieve(product.id)
      await sdk.store.product.retrieve(product.id, { region_id: eu, country_code: "de", fields: "*variants.calculated_price" })
      await sdk.store.productOption.list({ limit: 5 })
      await sdk.store.payment.listPaymentProviders({ region_id: eu })
    },
    build: (sdk) => list(sdk, { limit: 100, fields: "handle" }),
    mistakes: async (sdk) => {
      await sdk.store.product.retrieve("prod_nobody")
      await sdk.store.product.list({ colour: "red" })
      await sdk.store.product.list({ region_id: "reg_nowhere" })
    },
  }
}
