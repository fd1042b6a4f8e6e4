import { describe, expect, test } from 'vitest';
import { runScenario } from '../support/agent-child.ts';
import { nodeBinaries } from '../support/nodes.ts';

/** Scenario, and the number of checks it has to have run. */
const SCENARIOS: readonly [string, number][] = [
  ['kinds.cjs', 31],
  ['transparency.cjs', 22],
  ['hostile.cjs', 17],
  ['settle.cjs', 13],
  ['context.cjs', 19],
];

describe.each(nodeBinaries())('agent on Node $version', ({ path }) => {
  test.each(SCENARIOS)('%s', async (scenario, atLeast) => {
    const checks = await runScenario(path, scenario);
    expect(checks.filter(({ error }) => error !== undefined)).toEqual([]);
    expect(checks.length).toBeGreaterThanOrEqual(atLeast);
  });

  test('without code generation from strings', async () => {
    const checks = await runScenario(path, 'kinds.cjs', ['--disallow-code-generation-from-strings']);
    expect(checks.filter(({ error }) => error !== undefined)).toEqual([]);
    expect(checks.length).toBeGreaterThanOrEqual(31);
  });

  test('sixty agents, one after the other', async () => {
    const checks = await runScenario(path, 'cycles.cjs', ['--expose-gc']);
    expect(checks).toEqual([{ name: 'memory' }, { name: 'globals' }]);
  });
});
