// Starts Redis, the suite's origin and the nodes of four set-ups, runs the suite in all four side by side,
// and holds the results against expected.toml.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parse } from 'smol-toml'
import { byId, differences, message, outcome, score } from './score.mjs'
import * as source from './source.mjs'

const SETUPS = {
  'L1 only': { nodes: 1, redis: false },
  'L2 only': { nodes: 1, redis: true, memory: '0B' },
  'L1 and L2': { nodes: 1, redis: true },
  'two nodes': { nodes: 2, redis: true }
}
/** How often a test that differs is asked again. */
const AGAIN = 2
const here = import.meta.dirname
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'endcap-conformance-'))
const children = []

/** Starts a program that is stopped with this one. */
function start (program, args, options = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options })
  children.push(child)
  child.on('error', error => { console.error(`error: ${program}: ${error.message}`); process.exit(1) })
  return child
}

/** Waits for a line that matches and goes on reading, so that the program never waits for us. */
function line (stream, pattern) {
  return new Promise((resolve, reject) => {
    const seen = []
    createInterface(stream).on('line', text => {
      const match = text.match(pattern)
      if (match) resolve(match)
      else if (seen.length < 100) seen.push(text)
    }).on('close', () => reject(new Error(`ended without ${pattern}:\n${seen.join('\n')}`)))
  })
}

async function origin () {
  const env = { ...process.env, npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: os.devNull }
  const [, port] = await line(start(process.execPath, [source.server], { env }).stdout, /Listening on .*:(\d+)\//)
  return `http://127.0.0.1:${port}`
}

async function redis () {
  const socket = path.join(folder, 'redis.sock')
  const child = start('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', folder])
  await line(child.stdout, /eady to accept connections/)
  return `redis+unix://${socket}`
}

/** A node in RFC mode, ready: where it serves, and where it is looked at. */
async function node (name, setup, upstream, redis) {
  const memory = setup.memory === undefined ? '' : `[memory]\ncapacity = "${setup.memory}"\n`
  const shared = setup.redis
    ? `[redis]\nurl = "${redis}"\nnamespace = "${name.replaceAll(' ', '-')}"\ndeadline = "5s"\nconnect_timeout = "5s"\n`
    : ''
  const file = path.join(folder, `${name}.toml`)
  const rfc = fs.readFileSync(path.join(here, 'rfc.toml'), 'utf8')
  fs.writeFileSync(file, `upstream = "${upstream}"\n${memory}${shared}${rfc}`)
  const env = { ...process.env, ENDCAP_LISTEN__ADDRESS: '127.0.0.1:0', ENDCAP_OPS__ADDRESS: '127.0.0.1:0' }
  const child = start(process.env.ENDCAP, ['serve', '--config', file], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const [, listen, ops] = await line(child.stderr, /listen=(\S+) ops=(\S+)/)
  while (!(await fetch(`http://${ops}/readyz`)).ok);
  return { base: `http://${listen}`, ops: `http://${ops}` }
}

/** Runs the suite, or these tests of it, against nodes. */
async function run (nodes, only) {
  const child = start(process.execPath, [path.join(here, 'suite.mjs'), JSON.stringify({ nodes, only })])
  let text = ''
  child.stdout.on('data', chunk => { text += chunk })
  await once(child, 'close')
  const results = text.match(/^RESULTS (.*)$/m)
  if (!results) throw new Error(`the suite gave no results:\n${text}`)
  return JSON.parse(results[1])
}

/** A test and all that it depends on. */
function withDependencies (id, tests) {
  return [id, ...(tests.get(id).depends_on ?? []).flatMap(other => withDependencies(other, tests))]
}

/**
 * The results of a set-up. The suite's lifetimes are seconds of the real clock, so on a busy machine some are over
 * before the next request: what differs from the expectation is asked again, each by itself, and counts if it stays so.
 * Each time is told, and so is what came of it: a test that needs it often is not a good one, or we are not.
 */
async function settled (name, nodes, tests) {
  const results = await run(nodes, [])
  const expected = expectations(name)
  const retries = []
  for (let again = 1; again <= AGAIN; again++) {
    const different = differences(tests, results, expected).map(line => line.split(': ')[0]).filter(id => tests.has(id))
    if (different.length === 0) break
    for (const id of different) {
      const [was, due] = [outcome(id, tests, results), expected.get(id)?.outcome ?? 'pass']
      // What it depends on was asked again, and that was all.
      if (was === due) continue
      const before = `${was} (${message(results[id])})`
      Object.assign(results, await run(nodes, withDependencies(id, tests)))
      const is = outcome(id, tests, results)
      retries.push({ id, is, isSettled: is === due })
      console.log(`${name}: retry ${again} of ${id}: was ${before}, is ${is}, expected ${due}`)
    }
  }
  return { results, retries }
}

/** What expected.toml says of a set-up: by test, the outcome that is not "pass", and why. */
function expectations (setup) {
  const groups = parse(fs.readFileSync(source.expected, 'utf8')).expected ?? []
  const expected = new Map()
  for (const { outcome, why, tests, setups } of groups) {
    if (!outcome || !why) throw new Error(`a group in ${source.expected} needs outcome and why`)
    if (setups !== undefined && !setups.includes(setup)) continue
    for (const id of tests) {
      if (expected.has(id)) throw new Error(`${id} is in ${source.expected} twice`)
      expected.set(id, { outcome, why })
    }
  }
  return expected
}

/** What did not pass, grouped by outcome and set-ups, in the form of expected.toml. */
function list (tests, all) {
  const groups = new Map()
  for (const [id, { kind }] of tests) {
    const by = {}
    for (const [name, { results }] of all) (by[outcome(id, tests, results)] ??= []).push(name)
    for (const [is, setups] of Object.entries(by).filter(([is]) => is !== 'pass')) {
      const where = setups.length === all.length ? '' : `setups = ${JSON.stringify(setups)}\n`
      const { results } = all.find(([name]) => name === setups[0])[1]
      const line = `  "${id}", # ${kind ?? 'required'}: ${message(results[id])}`
      const head = `[[expected]]\noutcome = "${is}"\n${where}why = ""\ntests = [`
      groups.set(head, [...(groups.get(head) ?? []), line])
    }
  }
  for (const [head, lines] of groups) console.log(`${head}\n${lines.join('\n')}\n]\n`)
}

async function main (args) {
  const only = args.filter(arg => !arg.startsWith('-'))
  const [upstream, redisUrl] = await Promise.all([origin(), redis()])
  const tests = byId(await source.suites())
  const all = await Promise.all(Object.entries(SETUPS).map(async ([name, setup]) => {
    const nodes = await Promise.all(Array.from({ length: setup.nodes }, () => node(name, setup, upstream, redisUrl)))
    return [name, only.length > 0 ? { results: await run(nodes, only) } : await settled(name, nodes, tests)]
  }))
  if (only.length > 0) {
    for (const [name, { results }] of all) for (const id of only) console.log(`${name}: ${id}: ${message(results[id])}`)
    return 0
  }
  if (args.includes('--list')) {
    list(tests, all)
    return 0
  }
  console.log(`http-cache-tests ${source.version}${source.isCheckout ? ', a checkout of its source' : ''}: ${tests.size} tests`)
  let failed = false
  for (const [name, { results, retries }] of all) {
    const { required, optimal, check } = score(tests, results)
    const counts = `required ${required.join('/')}, optimal ${optimal.join('/')}, checks yes ${check.join('/')}`
    const flaky = new Set(retries.filter(retry => retry.isSettled).map(retry => retry.id))
    console.log(`${name}: ${counts}, retries ${retries.length}${flaky.size > 0 ? `, settled by them: ${[...flaky].join(' ')}` : ''}`)
    for (const line of differences(tests, results, expectations(name))) {
      failed = true
      console.log(`  ${line}`)
    }
  }
  if (failed) console.log(`error: this is not what tests/conformance/${path.basename(source.expected)} says; mend it, or say why there`)
  return failed ? 1 : 0
}

let code = 1
try {
  code = await main(process.argv.slice(2))
} catch (error) {
  console.error(`error: ${error.message}`)
} finally {
  for (const child of children) child.kill()
  fs.rmSync(folder, { recursive: true, force: true })
}
process.exit(code)
