const { defineConfig } = require("@medusajs/framework/utils")

const { DATABASE_URL, EVENT_BUS_URL, PLUGIN_OPTIONS, MEDUSA_FF_CACHING, MEDUSA_FF_TRANSLATION, STAMPS } = process.env

module.exports = defineConfig({
  admin: { disable: true },
  plugins: PLUGIN_OPTIONS ? [{ resolve: "medusa-plugin-endcap", options: JSON.parse(PLUGIN_OPTIONS) }] : [],
  modules: [
    ...(MEDUSA_FF_CACHING ? [{ resolve: "@medusajs/medusa/caching", options: { in_memory: { enable: true } } }] : []),
    ...(MEDUSA_FF_TRANSLATION ? [{ resolve: "@medusajs/medusa/translation" }] : []),
    // In the place of the bus in memory. Events are staged and released there; the plugin hears them when they are released.
    ...(EVENT_BUS_URL ? [{ resolve: "@medusajs/medusa/event-bus-redis", options: { redisUrl: EVENT_BUS_URL } }] : []),
    ...(STAMPS ? [{ resolve: "./src/modules/stamp" }] : []),
  ],
  projectConfig: {
    databaseUrl: DATABASE_URL,
    databaseDriverOptions: { connection: { ssl: false } },
    http: { storeCors: "http://localhost:8000", adminCors: "http://localhost:9000", authCors: "http://localhost:9000", jwtSecret: "oracle", cookieSecret: "oracle" },
  },
})
