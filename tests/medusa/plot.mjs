// The parts of a run as a picture: requests a second, and from P50 to P99, both on scales of powers of ten.
const [WIDTH, LEFT, ROW, TOP, SPAN] = [900, 230, 26, 60, 300]

/** An axis of powers of ten from `low` to `high`, `x` pixels from the left. */
function axis(x, low, high) {
  const at = (value) => x + (SPAN * (Math.log10(Math.max(value, low)) - Math.log10(low))) / (Math.log10(high) - Math.log10(low))
  const ticks = []
  for (let tick = low; tick <= high; tick *= 10) ticks.push(tick)
  return { at, ticks }
}
const text = (x, y, words, more = "") => `<text x="${x.toFixed(1)}" y="${y}" ${more}>${words}</text>`

/** An SVG of parts `{ name, rate, p50, p95, p99, errors }`. */
export function plot(parts) {
  const height = TOP + parts.length * ROW + 40
  const rates = axis(LEFT, 1, 100_000)
  const times = axis(LEFT + SPAN + 50, 0.1, 100_000)
  const grid = [rates, times].flatMap(({ at, ticks }) =>
    ticks.map((tick) => `<line x1="${at(tick)}" x2="${at(tick)}" y1="${TOP - 8}" y2="${height - 36}" stroke="#ddd"/>${text(at(tick), height - 22, tick.toLocaleString("en"), 'text-anchor="middle" font-size="10"')}`))
  const rows = parts.map(({ name, rate, p50, p95, p99, errors }, n) => {
    const y = TOP + n * ROW
    const colour = name.startsWith("endcap") ? "#2a7f62" : "#b3541e"
    const dot = (value, radius) => (Number.isNaN(value) ? "" : `<circle cx="${times.at(value).toFixed(1)}" cy="${y + 7}" r="${radius}" fill="${colour}"/>`)
    const range = Number.isNaN(p50) ? "" : `<line x1="${times.at(p50).toFixed(1)}" x2="${times.at(p99).toFixed(1)}" y1="${y + 7}" y2="${y + 7}" stroke="${colour}" stroke-width="2"/>`
    return [
      text(LEFT - 8, y + 11, name, 'text-anchor="end"'),
      `<rect x="${LEFT}" y="${y}" width="${Math.max(0, rates.at(rate) - LEFT).toFixed(1)}" height="14" fill="${colour}"/>`,
      text(Math.max(rates.at(rate), LEFT) + 4, y + 11, rate.toFixed(rate < 100 ? 1 : 0) + (errors ? `, ${errors} errors` : ""), 'font-size="10"'),
      range, dot(p50, 4), dot(p95, 3), dot(p99, 2),
    ].join("")
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${text(LEFT, 24, "requests answered a second", 'font-weight="bold"')}${text(LEFT + SPAN + 50, 24, "P50, P95, P99 in ms", 'font-weight="bold"')}
${grid.join("\n")}
${rows.join("\n")}
</svg>
`
}
