// Runs the suite in one set-up and prints the results as JSON. The suite keeps its state in its modules,
// so each set-up has a process of its own.
import http from 'node:http'
import fetch from 'node-fetch'
import * as source from './source.mjs'

/** One node or more: { base, ops }. Requests of one test go to them in turn. */
const { nodes, only } = JSON.parse(process.argv[2])
const agent = new http.Agent({ keepAlive: true, maxSockets: 100 })
const turns = new Map()

function nodeFor (path) {
  const test = path.match(/^\/test\/([^/?]+)/)?.[1]
  if (test === undefined) return nodes[0]
  const turn = turns.get(test) ?? 0
  turns.set(test, turn + 1)
  return nodes[turn % nodes.length]
}

async function throughProxy (path, init) {
  const response = await fetch(nodeFor(path).base + path, { ...init, agent })
  const body = await response.buffer()
  await settled()
  return new fetch.Response(response.status === 304 || response.status === 204 ? null : body, {
    status: response.status, statusText: response.statusText, headers: response.headers
  })
}

/** The same with the platform's own fetch, whose answers the checkout's client looks into. */
const platform = globalThis.fetch
async function throughProxyByPlatform (path, init) {
  const response = await platform(nodeFor(path).base + path, init)
  const body = await response.arrayBuffer()
  await settled()
  const { status, statusText, headers } = response
  return new Response([204, 205, 304].includes(status) ? null : body, { status, statusText, headers })
}

// An answer comes before the other nodes have it, so the next request waits until nothing is under way and
// all nodes have applied the same purges: the tests are about caching, not about who is first.
let asking = null
let next = null

function settled () {
  // A look that began before this call may have missed what the call is about: wait for the next one.
  if (asking === null) return (asking = look())
  next ??= asking.then(() => { next = null; return (asking = look()) })
  return next
}

async function look () {
  const deadline = Date.now() + 20000
  while (Date.now() < deadline) {
    const states = await Promise.all(nodes.map(async node => (await fetch(`${node.ops}/status`, { agent })).json()))
    const idle = states.every(state => state.fills.under_way === 0 && state.shared.writes_under_way === 0)
    if (idle && new Set(states.map(state => state.purges.applied)).size === 1) break
  }
  if (next === null) asking = null
}

const all = await source.suites()
const chosen = only.length === 0
  ? all
  : all.map(suite => ({ ...suite, tests: suite.tests.filter(test => only.includes(test.id)) }))
if (only.length > 0) chosen.flatMap(suite => suite.tests).forEach(test => { test.dump = process.env.DUMP === '1' })
const { runTests, getResults } = await source.runner()
// Fewer at once than the suite's own hundred: its lifetimes are two seconds of the real clock.
const atOnce = 50
if (source.isCheckout) {
  globalThis.fetch = throughProxyByPlatform
  await runTests(chosen, false, '', atOnce)
} else {
  await runTests(chosen, throughProxy, false, '', atOnce)
}
process.stdout.write('\nRESULTS ' + JSON.stringify(getResults()) + '\n')
process.exit(0)
