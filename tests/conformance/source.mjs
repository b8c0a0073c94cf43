// Where the suite is: the npm package, or a checkout of its source in SUITE, which is younger and laid out otherwise.
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const here = import.meta.dirname
const root = process.env.SUITE ?? path.join(here, 'node_modules/http-cache-tests')
const engine = process.env.SUITE === undefined ? root : path.join(root, 'test-engine')
const load = file => import(pathToFileURL(file))

/** Whether it is a checkout: its client then uses the global fetch, and Surrogate-Control is not among its tests. */
export const isCheckout = process.env.SUITE !== undefined
/** Its version, as its package says. */
export const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'))
/** The program that is its origin. */
export const server = path.join(engine, 'server/server.mjs')
/** What is expected of it. */
export const expected = path.join(here, isCheckout ? 'expected-source.toml' : 'expected.toml')

export async function suites () {
  const all = (await load(path.join(root, 'tests/index.mjs'))).default
  return isCheckout ? all : [...all, (await load(path.join(root, 'tests/surrogate-control.mjs'))).default]
}

export async function runner () {
  return load(path.join(engine, 'client/runner.mjs'))
}
