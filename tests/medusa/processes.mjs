// The processes of the oracle: Redis, the shop, the nodes. Each ends with this one.
import { spawn } from "node:child_process"
import { appendFileSync, createWriteStream, mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { until } from "./http.mjs"
import { port } from "./ports.mjs"

export const SECRET = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh"
const LONG = ["products", "product", "product-variants", "payment-providers", "product-categories", "collections", "product-tags", "product-types", "product-options"]
/** Fresh for longer than a run, 404s too: what is stale must be found by purges, not hidden by age, nor mended by
 * the echo or the canary. And a shop on a busy machine is slow, not dead. */
export const PATIENT = `[origin]\nfirst_byte_timeout = "60s"\ntotal_timeout = "120s"\n[purge]\necho = "0s"\ncanary = "0s"\nsoft_grace = "10s"\n${LONG.map((route) => `[route.${route}]\nttl = "6h"\nnegative_ttl = "6h"\n`).join("")}`

export const scratch = mkdtempSync(join(tmpdir(), "endcap-oracle-"))
const running = new Set()
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")))
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

/** A report goes to the end of the file that REPORT names, or to standard output. */
export const report = (text) => (process.env.REPORT ? appendFileSync(process.env.REPORT, text) : process.stdout.write(text))

/** Starts a program; its output goes to a file of that name in `scratch`. */
export function start(name, program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
  const log = createWriteStream(join(scratch, `${name}.log`), { flags: "a" })
  child.stdout.pipe(log)
  child.stderr.pipe(log)
  running.add(child)
  child.ended = new Promise((done) => child.on("exit", (code) => (running.delete(child), done(code))))
  return child
}

export async function stop(child, signal = "SIGTERM") {
  child.kill(signal)
  await child.ended
}

/** Starts a Redis that keeps nothing on the disk. */
export async function redis(at) {
  at ??= await port()
  const child = start("redis", "redis-server", ["--port", String(at), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
  return { child, url: `redis://127.0.0.1:${at}/0` }
}

/** Waits until it answers, or throws when it ended. */
export async function up(name, child, url) {
  const answered = until(name, async () => (await fetch(url)).status === 200)
  const code = await Promise.race([child.ended, answered])
  if (code !== true) throw new Error(`${name} ended: see ${scratch}/${name}.log`)
}

/** Starts the shop in the folder where it is installed. */
export async function shop({ home, at, database, plugin, env = {} }) {
  const child = start("shop", "node", ["node_modules/@medusajs/cli/cli.js", "start", "-p", String(at), "-H", "127.0.0.1"], {
    cwd: home,
    env: { ...process.env, NODE_ENV: "production", LOG_LEVEL: "warn", MEDUSA_DISABLE_TELEMETRY: "1", DATABASE_URL: database, ...(plugin ? { PLUGIN_OPTIONS: JSON.stringify(plugin) } : {}), ...env },
  })
  const base = `http://127.0.0.1:${at}`
  await up("shop", child, `${base}/health`)
  return { child, base }
}

/** Starts a node in front of the shop; `rest` are the settings beside addresses and preset. */
export async function node({ name, binary, upstream, redis, listen, ops, rest = PATIENT }) {
  const file = join(scratch, `${name}.toml`)
  writeFileSync(file, `upstream = "${upstream}"\npreset = "medusa"\nwebhook_secret = "${SECRET}"
[listen]\naddress = "127.0.0.1:${listen}"\n[ops]\naddress = "127.0.0.1:${ops}"\n[redis]\nurl = "${redis}"\n[log]\nrequests = "off"\n${rest}`)
  const child = start(name, binary, ["serve", "--config", file])
  await up(name, child, `http://127.0.0.1:${ops}/readyz`)
  return { child, base: `http://127.0.0.1:${listen}`, hook: `http://127.0.0.1:${ops}` }
}
