const { appendFileSync } = require("node:fs")
const { Module } = require("@medusajs/framework/utils")

/** Writes down when each event is released, as the plugin is told of it: name, and milliseconds of the system's clock. */
class Stamp {
  __hooks = {
    onApplicationStart: async () => {
      const { container } = require("@medusajs/framework")
      container.resolve("event_bus").addInterceptor(({ name }) => appendFileSync(process.env.STAMPS, `${Date.now()} ${name}\n`))
    },
  }
}

exports.default = Module("stamp", { service: Stamp })
