import assert from "node:assert/strict"
import { mock, test } from "node:test"
import { Bus, GROUP_MS, watchGroups } from "../src/lib/staged"

type Stage = { bus: Bus; asked: unknown[][]; hands: number; isAway: boolean }

/** A bus that is watched, what it was asked, and how many groups are in hand. */
function stage(): Stage {
  mock.timers.enable({ apis: ["setTimeout"] })
  const asked: unknown[][] = []
  const found: Stage = { bus: undefined as unknown as Bus, asked, hands: 0, isAway: false }
  const answer = (what: string) =>
    async function (this: unknown, ...of: unknown[]) {
      assert.equal(this, found.bus)
      if (found.isAway) throw new Error("no Redis")
      asked.push([what, ...of])
      return what
    }
  found.bus = { addInterceptor: () => undefined, emit: answer("emit"), releaseGroupedEvents: answer("release"), clearGroupedEvents: answer("clear") }
  const inHand = () => {
    found.hands += 1
    return () => void (found.hands -= 1)
  }
  watchGroups(found.bus, (name) => !name.startsWith("cart."), inHand)
  return found
}

function staged(name: string, run: (stage: Stage) => Promise<void>): void {
  test(name, () => run(stage()).finally(() => mock.timers.reset()))
}

const event = (name: string, group?: string) => ({ name, data: {}, ...(group === undefined ? {} : { metadata: { eventGroupId: group } }) })

staged("a group is in hand from its first event until it is released or dropped, and the bus does as ever", async (stage) => {
  const { bus, asked } = stage
  assert.equal(await bus.emit([event("product.updated", "g1"), event("product-tag.updated", "g1"), event("region.updated", "g2")], { internal: true }), "emit")
  assert.equal(stage.hands, 2)
  await bus.clearGroupedEvents("g1", { eventNames: ["product.updated"] })
  assert.equal(stage.hands, 2, "some of its events")
  await bus.releaseGroupedEvents("g1")
  assert.equal(stage.hands, 1)
  await bus.clearGroupedEvents("g2")
  await bus.releaseGroupedEvents("g3")
  assert.equal(stage.hands, 0)
  assert.deepEqual(asked.map(([what]) => what), ["emit", "clear", "release", "clear", "release"])
  assert.deepEqual(asked[0]![2], { internal: true })
})

staged("what is in no group, or changes no public answer, is not staged", async (stage) => {
  await stage.bus.emit(event("product.updated"))
  await stage.bus.emit([event("cart.updated", "g1")])
  assert.equal(stage.hands, 0)
})

staged("a group that the bus cannot release stays in hand, and one that nobody releases for ten minutes does not", async (stage) => {
  await stage.bus.emit(event("product.updated", "g1"))
  stage.isAway = true
  await assert.rejects(stage.bus.releaseGroupedEvents("g1"))
  assert.equal(stage.hands, 1)
  mock.timers.tick(GROUP_MS - 1)
  await assert.rejects(stage.bus.emit(event("product.updated", "g1")))
  mock.timers.tick(GROUP_MS - 1)
  assert.equal(stage.hands, 1)
  mock.timers.tick(1)
  assert.equal(stage.hands, 0)
})
