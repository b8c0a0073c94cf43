/** Runs scenes by turns. Each begins, and goes on until it asks for its next turn; then the one does that waits for longest. */
export async function inTurns(scenes) {
  const waiting = []
  const turn = () =>
    new Promise((begin) => {
      waiting.push(begin)
      handOn()
    })
  const handOn = () => waiting.shift()?.()
  const played = scenes.map(async (scene) => {
    await new Promise((begin) => waiting.push(begin))
    await scene(turn)
    handOn()
  })
  handOn()
  await Promise.all(played)
}
