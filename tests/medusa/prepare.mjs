// Seeds the shop that is installed in a folder: node prepare.mjs FOLDER DATABASE
import { port } from "./ports.mjs"
import { shop, stop } from "./processes.mjs"
import { seed } from "./seed.mjs"

const [home, database] = process.argv.slice(2)
const { child, base } = await shop({ home, at: await port(), database })
console.error("==", await seed(base))
await stop(child)
process.exit(0)
