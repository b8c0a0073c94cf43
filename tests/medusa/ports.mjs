// Ports that are free: node ports.mjs prints one.
import { createServer } from "node:net"
import { argv } from "node:process"
import { fileURLToPath } from "node:url"

/** A port that is free now. It is below those that a system gives to who asks for any: what else is tested on this
 * machine does not take it before its program does. */
export async function port() {
  const wanted = 10_000 + Math.floor(Math.random() * 20_000)
  const server = createServer()
  const free = await new Promise((done) => server.once("error", () => done(false)).listen(wanted, "127.0.0.1", () => done(true)))
  await new Promise((done) => server.close(done))
  return free ? wanted : port()
}

if (argv[1] === fileURLToPath(import.meta.url)) console.log(await port())
