// See run. A page on an origin of its own listens as the widget does, and says what it was told.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { createHmac } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"

const [binary] = process.argv.slice(2)
const SECRET = Buffer.from("a secret of this test alone")
const TOKEN = "feed-token-of-this-test"
const DEADLINE = 60_000
const folder = mkdtempSync(join(tmpdir(), "endcap-browser-"))
const children = []

const PAGE = `<!doctype html><title>Admin</title><script type="module">
  import { listen } from "/listen.js"
  const { url } = await (await fetch("/where")).json()
  const ticket = async () => (await (await fetch("/ticket", { method: "POST" })).json()).ticket
  const tell = (way) => ({ id, event, ids }) => fetch("/told", { method: "POST", body: JSON.stringify({ way, id, event, ids }) })
  listen({ url, ticket, tell: tell("sse"), pause: 100 })
  const socket = new WebSocket(url.replace("http", "ws") + "/events?ticket=" + encodeURIComponent(await ticket()))
  socket.onmessage = ({ data }) => tell("websocket")(JSON.parse(data))
</script>`

const told = []
let woken = () => {}
const wake = (one) => {
  told.push(one)
  woken()
}

/** What the page was told, once it was. */
async function heard(way, event) {
  const late = Date.now() + DEADLINE
  for (;;) {
    const at = told.findIndex((one) => one.way === way && one.event === event)
    if (at >= 0) return told.splice(at, 1)[0]
    const left = late - Date.now()
    assert(left > 0, `the page was not told of ${event} by ${way}, but of ${JSON.stringify(told)}`)
    await new Promise((wakes) => {
      const timer = setTimeout(wakes, left)
      woken = () => (clearTimeout(timer), wakes())
    })
  }
}

async function body(request) {
  const parts = []
  for await (const part of request) parts.push(part)
  return Buffer.concat(parts).toString()
}

let ops
const site = createServer(async (request, response) => {
  const json = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value))
  switch (request.url) {
    case "/":
      return response.setHeader("content-type", "text/html").end(PAGE)
    case "/listen.js":
      return response.setHeader("content-type", "text/javascript").end(readFileSync("deploy/admin-events/listen.js"))
    case "/where":
      return json({ url: ops })
    case "/ticket": {
      // As ticket.ts does: the token stays on the server.
      const answer = await fetch(`${ops}/events/ticket`, { method: "POST", headers: { authorization: `Bearer ${TOKEN}` } }).catch(() => undefined)
      response.statusCode = answer?.status ?? 502
      return json(answer?.ok ? await answer.json() : {})
    }
    case "/told":
      wake(JSON.parse(await body(request)))
      return response.end()
    default:
      response.statusCode = 404
      return response.end()
  }
})

function child(command, args, options = {}) {
  const started = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], ...options })
  children.push(started)
  return started
}

/** Starts endcap, at the ops address that it had. */
async function endcap(origin) {
  const config = join(folder, "proxy.toml")
  writeFileSync(config, `
upstream = "http://127.0.0.1:9"
webhook_secret = "whsec_${SECRET.toString("base64")}"
[listen]
address = "127.0.0.1:0"
[ops]
address = "${ops ? new URL(ops).host : "127.0.0.1:0"}"
[feed]
token = "${TOKEN}"
allow_origins = ["${origin}"]
[log]
format = "json"
[event]
"product.updated" = { hard = ["{id}"] }
"order.updated" = {}
`)
  const started = child(binary, ["serve", "--config", config])
  for await (const line of createInterface({ input: started.stderr })) {
    const said = JSON.parse(line)
    const address = (said.fields ?? said).ops
    if (typeof address === "string") {
      ops = `http://${address}`
      started.stderr.resume()
      return started
    }
  }
  throw new Error("endcap does not start")
}

async function listeners(count) {
  for (const late = Date.now() + DEADLINE; ; await new Promise((wakes) => setTimeout(wakes, 20))) {
    const metrics = await (await fetch(`${ops}/metrics`)).text()
    const clients = Number(/^endcap_feed_clients (\d+)/m.exec(metrics)?.[1])
    if (clients === count) return
    assert(Date.now() < late, `${clients} listen, not ${count}`)
  }
}

let number = 0
async function announce(type, id) {
  const [name, at] = [`msg_${(number += 1)}`, Math.floor(Date.now() / 1000)]
  const text = JSON.stringify({ type, data: { id } })
  const signature = createHmac("sha256", SECRET).update(`${name}.${at}.${text}`).digest("base64")
  const headers = { "webhook-id": name, "webhook-timestamp": String(at), "webhook-signature": `v1,${signature}` }
  const answer = await fetch(`${ops}/hooks/default`, { method: "POST", headers, body: text })
  assert(answer.ok, `${answer.status} ${await answer.text()}`)
}

try {
  await new Promise((listening) => site.listen(0, "127.0.0.1", listening))
  const origin = `http://127.0.0.1:${site.address().port}`
  const first = await endcap(origin)
  const sandbox = process.getuid() === 0 ? ["--no-sandbox"] : []
  child(process.env.CHROMIUM, ["--headless=new", "--disable-gpu", `--user-data-dir=${join(folder, "profile")}`, ...sandbox, origin])
    .stderr.resume()
  await listeners(2)
  await announce("product.updated", "prod_1")
  for (const way of ["sse", "websocket"]) assert.deepEqual((await heard(way, "product.updated")).ids, ["prod_1"])
  await announce("order.updated", "order_1")
  for (const way of ["sse", "websocket"]) assert.deepEqual((await heard(way, "order.updated")).ids, ["order_1"])
  console.log("the page is told by server-sent events and by WebSocket")

  first.kill("SIGKILL")
  await new Promise((ended) => first.once("exit", ended))
  await endcap(origin)
  await listeners(1)
  await heard("sse", "reset")
  await announce("product.updated", "prod_2")
  assert.deepEqual((await heard("sse", "product.updated")).ids, ["prod_2"])
  console.log("it comes back by a new ticket, is told that it may have missed something, and is told on")
} finally {
  children.forEach((one) => one.kill("SIGKILL"))
  site.close()
  site.closeAllConnections()
  await Promise.all(children.map((one) => one.exitCode !== null || one.signalCode !== null || new Promise((ended) => one.once("exit", ended))))
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}
