// What a test's result means. A test counts only if all that it depends on passed, as the suite itself shows it.

/** All tests that concern a proxy, by id. */
export function byId (suites) {
  const tests = suites.flatMap(suite => suite.tests).filter(test => test.browser_only !== true)
  return new Map(tests.map(test => [test.id, test]))
}

/**
 * The outcome of a test: "pass", "fail" (for a check: the answer is no), "dependency", or "setup" (the
 * exchange went otherwise than the test needs, or the harness failed).
 */
export function outcome (id, tests, results) {
  const result = results[id]
  if ((tests.get(id)?.depends_on ?? []).some(other => outcome(other, tests, results) !== 'pass')) return 'dependency'
  if (result === true) return 'pass'
  if (result === undefined || result[0] !== 'Assertion') return 'setup'
  return 'fail'
}

/** Passed and all, by kind: required (a failure breaks the standard), optimal (it wastes), check (it informs). */
export function score (tests, results) {
  const score = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
  for (const [id, test] of tests) {
    const counts = score[test.kind ?? 'required']
    counts[1] += 1
    if (outcome(id, tests, results) === 'pass') counts[0] += 1
  }
  return score
}

/** Differences between what is expected not to pass and what did not, as lines. */
export function differences (tests, results, expected) {
  const lines = []
  for (const id of tests.keys()) {
    const is = outcome(id, tests, results)
    const due = expected.get(id)?.outcome ?? 'pass'
    if (is !== due) lines.push(`${id}: ${is}, expected ${due}${is === 'pass' ? '' : ` (${message(results[id])})`}`)
  }
  for (const id of expected.keys()) {
    if (!tests.has(id)) lines.push(`${id}: expected not to pass, but the suite has no such test`)
  }
  return lines
}

export function message (result) {
  return result === true ? 'passed' : Array.isArray(result) ? result.join(': ') : 'no result'
}
