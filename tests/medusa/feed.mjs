// What an admin's client hears of a node's events.

/** Listens to `/events` for as long as this process lives; what is heard stands in the list that is returned. */
export async function listen({ hook }, token) {
  const response = await fetch(`${hook}/events`, { headers: { accept: "text/event-stream", authorization: `Bearer ${token}` } })
  if (response.status !== 200) throw new Error(`/events: ${response.status}`)
  const heard = []
  const read = async () => {
    let rest = ""
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + text).split("\n\n")
      rest = blocks.pop()
      const data = blocks.flatMap((block) => block.split("\n")).filter((line) => line.startsWith("data: "))
      heard.push(...data.map((line) => JSON.parse(line.slice("data: ".length))))
    }
  }
  read().catch((error) => heard.push({ event: `the stream broke: ${error}` }))
  return heard
}
