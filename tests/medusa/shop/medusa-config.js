const { defineConfig } = require("@medusajs/framework/utils")

const { DATABASE_URL, PLUGIN_OPTIONS, MEDUSA_FF_CACHING, MEDUSA_FF_TRANSLATION, STAMPS } = process.env

module.exports = defineConfig({
  admin: { disable: true },
  plugins: PLUGIN_OPTIONS ? [{ resolve: "medusa-plugin-endcap", options: JSON.parse(PLUGIN_OPTIONS) }] : [],
  modules: [
    ...(MEDUSA_FF_CACHING ? [{ resolve: "@medusajs/medusa/caching", options: { in_memory: { enable: true } } }] : []),
    ...(MEDUSA_FF_TRANSLATION ? [{ resolve: "@medusajs/medusa/translation" }] : []),
    ...(STAMPS ? [{ resolve: "./src/modules/stamp" }] : []),
  ],
  projectConfig: {
    databaseUrl: DATABASE_URL,
    databaseDriverOptions: { connection: { ssl: false } },
    http: { storeCors: "http://localhost:8000", adminCors: "http://localhost:9000", authCors: "http://localhost:9000", jwtSecret: "oracle", cookieSecret: "oracle" },
  },
})
