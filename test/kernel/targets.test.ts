import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTarget, type Target } from '../fixtures/targets/client.ts';

// The fixtures are the truth that probes are measured against, so they are checked themselves.
describe.each(['kinds.cjs', 'kinds.mjs'])('%s', (name) => {
  let target: Target;
  beforeAll(async () => {
    target = await startTarget(name);
  });
  afterAll(async () => {
    expect(await target.stop()).toBe(0);
  });

  it('marks the first statement of every kind', async () => {
    const kinds = await target.list();
    expect(kinds.length).toBe(38);
    expect(kinds.filter((kind) => kind.line === 0)).toEqual([]);
  });

  it('calls each function as often as asked', async () => {
    const before = await target.hits();
    const results = await target.callAll(7);
    const after = await target.hits();
    for (const [kind, result] of Object.entries(results)) {
      expect(result, kind).toMatchObject({ ok: 7, thrown: 0 });
      const perCall = kind === 'recursive' ? 5 : kind === 'method' || kind === 'constructor' ? 2 : 1;
      expect((after[kind] ?? 0) - (before[kind] ?? 0), kind).toBe(7 * perCall);
    }
    const thrown = await target.callAll(3, 'throw');
    for (const [kind, result] of Object.entries(thrown)) {
      expect(result, kind).toMatchObject({ ok: 0, thrown: 3 });
    }
  });

  it('observes the same twice', async () => {
    const first = await target.observeAll();
    expect(await target.observeAll()).toEqual(first);
    for (const [kind, seen] of Object.entries(first)) expect(seen['identity'], kind).toBe(true);
  });

  it('suspends and finishes held calls', async () => {
    await target.request('hold');
    expect(await target.request('release')).toEqual({ entered: 2, left: 2 });
  });
});
