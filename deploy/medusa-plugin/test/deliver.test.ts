import assert from "node:assert/strict"
import { createServer, IncomingHttpHeaders } from "node:http"
import { AddressInfo } from "node:net"
import { test } from "node:test"
import { deliver, Outcome } from "../src/lib/deliver"
import { secretKey, signed } from "../src/lib/sign"

const KEY = secretKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

/** What a delivery becomes when endcap answers so. */
async function answered(status: number, headers: Record<string, string> = {}, text = '{"purged":1}'): Promise<[Outcome, IncomingHttpHeaders, string]> {
  let seen: [IncomingHttpHeaders, string] = [{}, ""]
  const server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on("data", (chunk) => chunks.push(chunk))
    req.on("end", () => {
      seen = [req.headers, Buffer.concat(chunks).toString()]
      res.writeHead(status, headers).end(status === 204 ? undefined : text)
    })
  })
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening))
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks/default`
    return [await deliver(url, KEY, "msg_1", '{"events":[]}'), ...seen]
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

test("a delivery is signed over its body, and taken when endcap says so", async () => {
  const [outcome, headers, body] = await answered(200)
  assert.deepEqual(outcome, { kind: "taken" })
  const expected = signed(KEY, "msg_1", Number(headers["webhook-timestamp"]), body)
  assert.equal(headers["webhook-signature"], expected["webhook-signature"])
  // In the journal of a node whose Redis is away; and taken before, when only the answer was lost.
  for (const [status, text] of [[202, '{"purged":1,"durable":"journal"}'], [200, '{"duplicate":true,"purged":0}'], [409, '{"error":"this delivery was taken before"}']] as const) {
    assert.deepEqual((await answered(status, {}, text))[0], { kind: "taken" }, String(status))
  }
})

test("each refusal says what to do", async () => {
  const check = async (status: number, headers: Record<string, string>, expected: RegExp, kind: string, after?: number) => {
    const [outcome] = await answered(status, headers, '{"error":"why"}')
    assert.equal(outcome.kind, kind)
    assert.match("why" in outcome ? outcome.why : "", expected)
    assert.equal("after" in outcome ? outcome.after : undefined, after)
  }
  await check(503, { "retry-after": "2" }, /Redis/, "later", 2_000)
  await check(503, { "retry-after": "99999" }, /Redis/, "later", 60_000)
  await check(503, { "retry-after": "soon" }, /Redis/, "later")
  await check(401, {}, /signature: the secret .* webhook_secret of endcap$/, "later")
  const apart = (ms: number) => ({ date: new Date(Date.now() - ms).toUTCString() })
  await check(401, apart(600_000), /signature: its clock .* (59\d|60\d) s/, "later")
  // So far apart it would have been taken: by its default.
  await check(401, apart(120_000), /signature: the secret .*; besides, its clock .* 1[12]\d s/, "later")
  await check(404, {}, /ends in \/hooks/, "later")
  await check(500, {}, /answers 500: its log/, "later")
  await check(400, {}, /one version/, "refused")
  await check(413, {}, /^$/, "large")
})

test("nobody but endcap takes a delivery or refuses it, whatever it answers", async () => {
  const check = async (status: number, text: string, expected: RegExp) => {
    const [outcome] = await answered(status, { "retry-after": "1" }, text)
    assert.equal(outcome.kind, "later", `${status} ${text}`)
    assert.match((outcome as { why: string }).why, expected)
  }
  const page = "<!doctype html><title>Welcome</title>"
  const medusa = '{"type":"not_found","message":"no such route"}'
  for (const text of [page, "", "null", "[]", "1", '{"ok":true}', '{"purged":"all"}', medusa, '{"error":"Not Found","statusCode":404}']) {
    for (const status of [200, 204, 302, 400, 401, 404, 409]) await check(status, status === 204 ? "" : text, /not as endcap does: url must be endcap's ops address/)
    for (const status of [500, 502, 503]) await check(status, text, /not as endcap does: something between here and endcap fails/)
  }
})

test("an endcap that knows less than the plugin says so, and a project's own events it need not know", async () => {
  const unknown = (...names: string[]) => JSON.stringify({ purged: 1, unknown: names, incomplete: [] })
  const [outcome] = await answered(202, {}, unknown("erp.synced", "endcap.product-listing"))
  assert.equal(outcome.kind, "unknown")
  assert.match((outcome as { why: string }).why, /does not know endcap.product-listing: has it preset = "medusa"/)
  assert.deepEqual((await answered(202, {}, unknown("erp.synced")))[0], { kind: "taken" })
})

test("an event without an id is not taken for told, whether the rest of its delivery was or not", async () => {
  const text = JSON.stringify({ purged: 1, incomplete: [{ event: "product.updated", lacking: "id" }, { event: "product.updated", lacking: "id" }] })
  const why = "cannot tell what was changed by product.updated (no id)"
  assert.deepEqual((await answered(200, {}, text))[0], { kind: "unknown", why })
  assert.deepEqual((await answered(400, {}, text))[0], { kind: "refused", why })
  assert.deepEqual((await answered(200, {}, '{"purged":0,"incomplete":[]}'))[0], { kind: "taken" })
})

test("an answer whose lists are of another shape is taken for what else it says", async () => {
  for (const odd of ['"x"', "7", "null", "{}", "[null, 7, {}]", '[{"event":7,"lacking":"id"}]']) {
    const text = `{"purged":1,"unknown":${odd},"incomplete":${odd}}`
    assert.deepEqual((await answered(200, {}, text))[0], { kind: "taken" }, odd)
  }
})

test("nobody there is said in words", async () => {
  const server = createServer()
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening))
  const { port } = server.address() as AddressInfo
  await new Promise((closed) => server.close(closed))
  const outcome = await deliver(`http://127.0.0.1:${port}/hooks/default`, KEY, "msg_1", "{}")
  assert.equal(outcome.kind, "later")
  assert.match((outcome as { why: string }).why, /ECONNREFUSED.*is endcap running/)
})
