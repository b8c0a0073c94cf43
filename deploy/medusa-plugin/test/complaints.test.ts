import assert from "node:assert/strict"
import { test } from "node:test"
import { AGAIN_MS, Complaints, TEXTS_MAX } from "../src/lib/complaints"

/** Complaints under a clock that stands still, and what was said since the last look. */
function stage() {
  const clock = { now: 0 }
  const said: string[] = []
  const complaints = new Complaints((text) => void said.push(text), () => clock.now)
  const add = (...texts: string[]) => (texts.forEach((text) => complaints.add(text)), said.splice(0))
  return { clock, add }
}

test("what is wrong is said once, and again after an hour", () => {
  const { clock, add } = stage()
  assert.deepEqual(add("a", "a"), ["a"])
  clock.now = 1_000
  assert.deepEqual(add("b"), ["b"])
  clock.now = AGAIN_MS - 1
  assert.deepEqual(add("a", "b"), [])
  clock.now = AGAIN_MS
  assert.deepEqual(add("a", "b", "a"), ["a"])
  clock.now = AGAIN_MS + 1_000
  assert.deepEqual(add("a", "b"), ["b"])
})

test("of many texts a hundred are said in an hour, and others when some of these are forgotten", () => {
  const { clock, add } = stage()
  const texts = Array.from({ length: 10 * TEXTS_MAX }, (_, at) => `text ${at}`)
  assert.deepEqual(add(...texts), texts.slice(0, TEXTS_MAX))
  clock.now = AGAIN_MS - 1
  assert.deepEqual(add("another"), [])
  clock.now = AGAIN_MS
  assert.deepEqual(add("another", ...texts), ["another", ...texts.slice(0, TEXTS_MAX - 1)])
})
