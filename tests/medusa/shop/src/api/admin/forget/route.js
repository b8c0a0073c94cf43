/** `GET /admin/forget`: Medusa's own cache is empty, so that what is asked next comes from the database. */
exports.GET = async (req, res) => {
  await req.scope.resolve("caching", { allowUnregistered: true })?.clear({ tags: ["*"] })
  res.json({})
}
