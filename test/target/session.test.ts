import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { attach } from '../../src/target/attach.ts';
import { processListeners } from '../../src/target/procfs.ts';
import { startTarget, type Target, targetFile } from '../fixtures/targets/client.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { OwnTime } from '../support/own-time.ts';
import { unless } from '../support/skip.ts';
import {
  entryOf,
  functionAround,
  openSession,
  PROGRAM,
  readCounts,
  recorder,
  until,
} from '../support/target.ts';

const ARM = { way: 'auto', maxPauseMs: 60_000, maxactive: 0 } as const;
const started: { stop(): unknown }[] = [];

async function start(
  file: string,
  node?: string,
  execArgv: string[] = ['--inspect-port=0'],
): Promise<Target> {
  const target = await startTarget(file, { ...(node === undefined ? {} : { node }), execArgv });
  started.push(target);
  return target;
}

/** A process that is not one of the fixtures: resolves at its first output. */
async function run(command: string, args: string[]): Promise<ChildProcess & { pid: number }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  started.push({ stop: () => child.kill('SIGKILL') });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child as ChildProcess & { pid: number };
}

afterEach(async () => {
  for (const target of started.splice(0)) await target.stop();
});

/** Mount namespaces need root. */
const canUnshare = spawnSync('unshare', ['-m', 'true']).status === 0;

const threads = (pid: number): number =>
  Number(/^Threads:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
const folders = (pid: number): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`trapline-${pid}-`));

async function refusal(promise: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error as { code: string; message: string; hint: string };
}

describe.each(nodeBinaries())('a session with Node $version', ({ path, major }) => {
  test('leaves nothing behind, twice', async () => {
    const target = await start('kinds.mjs', path);
    await target.callAll(1);
    const environment = await target.request('environment');
    const before = threads(target.pid);
    for (let round = 0; round < 2; round++) {
      const { session } = await openSession(target.pid);
      expect(session.info).toMatchObject({ pid: target.pid, workers: 0, prepared: false });
      expect(folders(target.pid)).toHaveLength(1);
      const symbol = functionAround(await session.functions(), targetFile('kinds.mjs'), '/* declaration */');
      await session.attach([entryOf(symbol)], ARM);
      await target.call('declaration', 10);
      expect(await readCounts(session)).toMatchObject({ 0: 10 });
      const report = await session.detach();
      expect(report.functionsRestored).toBe(1);
      expect(report.longestPauseMs).toBeGreaterThan(0);
      await until('the worker is gone', () => threads(target.pid) === before);
    }
    expect(folders(target.pid)).toEqual([]);
    expect(await target.request('environment')).toEqual(environment);
  });

  test('restores everything when its tracer is killed', async () => {
    const target = await start('kinds.cjs', path);
    const environment = await target.request('environment');
    const before = await target.observeAll();
    const count = threads(target.pid);
    const tracer = await run(process.execPath, [
      '--input-type=module',
      '-e',
      `import { attach } from ${JSON.stringify(new URL('../../dist/target/attach.js', import.meta.url).href)};
       const none = () => {};
       const events = { onRecord: none, onArmed: none, onLost: none, onWarning: none, onGone: none };
       const session = await attach(${target.pid}, events);
       const functions = await session.functions();
       const [, symbol] = [0, functions.find(({ name, file }) => name === 'declaration' && file.endsWith('kinds.cjs'))];
       const closure = functions.find(({ name, file }) => name === 'asyncMethod' || (file.endsWith('kinds.cjs') && name.endsWith('#secret')));
       const insns = [{ code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 }, { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 }];
       const program = { name: 'p', type: 'kprobe', insns, maps: [], ctxReads: new Set(), kfuncsUsed: [], helpersUsed: [],
         stackDepth: 0, subprogs: [0], reachable: [true, true], verifiedInsns: 2, memoryKinds: new Map(), log: '' };
       await session.load({ maps: [{ name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 }],
         programs: [program], paths: [{ keys: [], position: 0 }], usesAsyncId: false });
       const at = (symbol) => ({ program: 0, event: 'entry', cookie: 0, at: { kind: 'function', symbol } });
       await session.attach([at(symbol)], { way: 'bind', maxPauseMs: 1e6, maxactive: 0 });
       if (closure) await session.attach([at(closure)], { way: 'edit', maxPauseMs: 1e6, maxactive: 0 });
       console.log('armed');
       setInterval(none, 1000);`,
    ]);
    await target.callAll(1);
    expect(folders(target.pid)).toHaveLength(1);
    expect(await target.request('environment')).not.toEqual(environment);
    tracer.kill('SIGKILL');
    const time = new OwnTime(() => [target.pid]);
    const gone = () => folders(target.pid).length === 0 && threads(target.pid) === count;
    expect(await time.within(2000, gone), `after ${time.ms} ms`).toBe(true);
    expect(await target.request('environment')).toEqual(environment);
    expect(await target.observeAll()).toEqual(before);
  });

  test('leaves no inspector open in a main thread that was busy', async () => {
    const code = `process.on('SIGUSR2', () => { const end = Date.now() + 1500; while (Date.now() < end); });
      setInterval(() => {}, 100); console.log(1);`;
    const child = await run(path, ['--inspect-port=0', '-e', code]);
    child.kill('SIGUSR2');
    await sleep(300);
    const session = await attach(child.pid, recorder());
    await session.detach();
    // the loop is over, the event loop turns, and Node sees the other half of SIGUSR1
    await sleep(2000);
    await until('its port is closed', () => processListeners(child.pid).length === 0);
  });

  test('leaves no inspector open in a main thread that never comes to its event loop', async () => {
    const child = await run(path, ['--inspect-port=0', '-e', 'console.log(1); for (;;);']);
    for (let round = 0; round < 2; round++) {
      const session = await attach(child.pid, recorder());
      // the worker of the round before cannot end yet, and is none of the application's
      expect(session.info.workers).toBe(0);
      await session.detach();
      expect(processListeners(child.pid)).toEqual([]);
    }
    const session = await attach(child.pid, recorder());
    await until('it is closed while the session lasts', () => processListeners(child.pid).length === 0);
    await session.detach();
  });

  test('lists modules of a main thread that never comes to its event loop', async () => {
    const file = targetFile('kinds.cjs');
    const child = await run(path, ['-e', `require(${JSON.stringify(file)}); console.log(1); for (;;);`]);
    const session = await attach(child.pid, recorder());
    const wanted = (name: string): boolean => name === file;
    const functions = await session.functions(wanted, { enough: (symbols) => symbols.length > 0 });
    expect(functions.length).toBeGreaterThan(10);
    await session.detach();
  });

  test(
    'reaches a process whose folder for temporary files is its own',
    unless(canUnshare ? undefined : 'only root may unshare mounts'),
    async () => {
      const own = mkdtempSync(join(tmpdir(), 'trapline-own-'));
      started.push({ stop: () => rmSync(own, { recursive: true }) });
      const code = 'console.log(1); setInterval(() => {}, 100)';
      const inside = `mount -t tmpfs none '${own}' && TMPDIR='${own}' exec '${path}' --inspect-port=0 -e '${code}'`;
      const child = await run('unshare', ['-m', 'sh', '-c', inside]);
      const session = await attach(child.pid, recorder());
      expect(session.info.pid).toBe(child.pid);
      await session.detach();
      // what the process made is on its side of the mount
      expect(readdirSync(own)).toEqual([]);
      await until('its folder is gone', () => readdirSync(`/proc/${child.pid}/root${own}`).length === 0);
    },
  );

  test('ends when the process does', async () => {
    const target = await start('kinds.cjs', path);
    const { events } = await openSession(target.pid);
    target.child.kill('SIGKILL');
    await until('the session knows', () => events.gone.length > 0);
    expect(folders(target.pid)).toEqual([]);
  });

  test('delivers or counts every record', async () => {
    const target = await start('kinds.cjs', path);
    const { session, events } = await openSession(target.pid);
    const symbol = functionAround(await session.functions(), targetFile('kinds.cjs'), '/* declaration */');
    await session.attach([entryOf(symbol, 5, PROGRAM.record)], { ...ARM, way: 'edit' });
    await target.call('declaration', 50_000);
    await session.flush();
    expect(events.records.length + events.lost).toBe(50_000);
    expect(events.records.length).toBeGreaterThan(0);
    expect(new Set(events.records)).toEqual(new Set([5]));
    await session.detach();
  });

  test('uses an inspector that was open, and leaves it open', async () => {
    const target = await start('kinds.cjs', path, ['--inspect=127.0.0.1:0']);
    const environment = await target.request<{ inspectorUrl: string }>('environment');
    expect(environment.inspectorUrl).toMatch(/^ws:/);
    const { session } = await openSession(target.pid);
    await session.detach();
    expect(await target.request('environment')).toEqual(environment);
  });

  test(
    'says what --permission forbids',
    unless(major < 22 ? 'Node 20 does not handle SIGUSR1 then' : undefined),
    async () => {
      const flag = major >= 24 ? '--permission' : '--experimental-permission';
      const folder = targetFile('.');
      const target = await start('kinds.cjs', path, [flag, `--allow-fs-read=${folder}`, '--inspect-port=0']);
      const { code, hint } = await refusal(attach(target.pid, recorder()));
      expect(['EPERMISSION', 'ESIGUSR1']).toContain(code);
      expect(hint).toMatch(/--allow-worker/);
      expect((await target.call('declaration', 1)).ok).toBe(1);
    },
  );

  test('says that a process waits for a debugger, and leaves it waiting', async () => {
    const child = spawn(path, ['--inspect-brk=127.0.0.1:0', '-e', 'console.log("ran")']);
    started.push({ stop: () => child.kill('SIGKILL') });
    let out = '';
    child.stdout.on('data', (text) => {
      out += text;
    });
    await new Promise((resolve) => child.stderr.once('data', resolve));
    const { code, message } = await refusal(attach(child.pid!, recorder()));
    expect({ code, message }).toEqual({
      code: 'EWAITING',
      message: `process ${child.pid} waits for a debugger before its first line runs`,
    });
    expect({ out, exitCode: child.exitCode }).toEqual({ out: '', exitCode: null });
  });

  test('says that a process has no WebAssembly', async () => {
    const target = await start('kinds.cjs', path, ['--jitless', '--inspect-port=0']);
    const { code, message } = await refusal(openSession(target.pid));
    expect({ code, message }).toMatchObject({
      code: 'ENOWASM',
      message: expect.stringContaining('--jitless'),
    });
    expect(folders(target.pid)).toEqual([]);
  });

  test('says that a process has exited meanwhile, whenever that is', async () => {
    for (const ms of [20, 40, 60, 80, 100, 120, 150, 200]) {
      const code = `process.on('SIGUSR2', () => setTimeout(() => process.exit(), ${ms})); setInterval(() => {}, 5); console.log(1);`;
      const child = await run(path, ['--inspect-port=0', '-e', code]);
      child.kill('SIGUSR2');
      const attached = await attach(child.pid, recorder()).catch((error: Error) => error.message);
      // one that lived long enough
      if (typeof attached !== 'string') await attached.detach().catch(() => undefined);
      else
        expect(attached).toMatch(
          /^(process \d+ has exited( and is a zombie)?|no process \d+|the process exited while .*)$/,
        );
    }
  });
});

describe('breakpoint probes', () => {
  test('have a bounded rate, and tell what they missed', async () => {
    const target = await start('kinds.cjs');
    const { session, events } = await openSession(target.pid);
    const symbol = functionAround(await session.functions(), targetFile('kinds.cjs'), '/* declaration */');
    const [report] = await session.attach([entryOf(symbol)], { ...ARM, way: 'break' });
    expect(report).toMatchObject({ way: 'break' });
    const limit = report?.rateLimit ?? 0;
    await target.call('declaration', 20_000);
    await until('it is told', () => events.armed.some(({ note }) => note?.includes('hits missed')));
    const [counted = 0] = await readCounts(session);
    // one slice's worth but for what the first hit took, and what came before the breakpoint was gone
    expect(counted).toBeGreaterThanOrEqual(Math.floor(limit / 8));
    expect(counted).toBeLessThan(20_000);
    // it is back
    await target.call('declaration', 5);
    expect((await readCounts(session))[0]).toBe(counted + 5);
    await session.detach();
  });

  test('see a line inside a function, and cannot see its end', async () => {
    const target = await start('kinds.cjs');
    const { session } = await openSession(target.pid);
    const symbol = functionAround(await session.functions(), targetFile('kinds.cjs'), '/* aliased */');
    const at = { kind: 'line', symbol, line: symbol.line + 2, column: 1 } as const;
    await session.attach([{ program: PROGRAM.count, event: 'entry', cookie: 3, at }], {
      ...ARM,
      way: 'break',
    });
    await target.call('aliased', 4);
    expect((await readCounts(session))[3]).toBe(4);
    const end = { ...entryOf(symbol), event: 'return' } as const;
    expect(await refusal(session.attach([end], { ...ARM, way: 'break' }))).toMatchObject({ code: 'EARM' });
    await session.detach();
  });
});

describe('refusals', () => {
  test('no such process', async () => {
    expect(await refusal(attach(2 ** 22 + 1, recorder()))).toMatchObject({ code: 'ESRCH' });
    expect(await refusal(attach(-1, recorder()))).toMatchObject({ code: 'ESRCH' });
    expect(await refusal(attach(process.pid, recorder()))).toMatchObject({ code: 'ESELF' });
  });

  test('not a Node process', async () => {
    const child = await run('sh', ['-c', 'echo up; exec sleep 60']);
    await until('sleep runs', () => readFileSync(`/proc/${child.pid}/cmdline`, 'utf8').startsWith('sleep'));
    const { code, hint } = await refusal(attach(child.pid, recorder()));
    expect({ code, hint }).toEqual({
      code: 'ENOTNODE',
      hint: "pgrep -af '^([^ ]*/)?node ' lists the Node processes",
    });
    await sleep(50);
    expect(child.signalCode).toBeNull();
  });

  test("the application's own SIGUSR1 handler", async () => {
    const child = await run(process.execPath, [
      '--inspect-port=0',
      '-e',
      "process.on('SIGUSR1', () => {}); console.log('up'); setInterval(() => {}, 1e3)",
    ]);
    const { code, hint } = await refusal(attach(child.pid, recorder()));
    expect(code).toBe('ESIGUSR1');
    expect(hint).toContain('its own SIGUSR1 handler');
    expect(child.exitCode).toBeNull();
  });

  test('SIGUSR1 disabled', async () => {
    const binary = nodeBinaries().find(({ major }) => major >= 24);
    if (binary === undefined) return;
    const child = await run(binary.path, [
      '--disable-sigusr1',
      '--inspect-port=0',
      '-e',
      "console.log('up'); setInterval(() => {}, 1e3)",
    ]);
    await sleep(4100);
    expect(await refusal(attach(child.pid, recorder()))).toMatchObject({ code: 'ESIGUSR1' });
    expect(child.signalCode).toBeNull();
  });

  test('a port that another process holds', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const target = await start('kinds.cjs', undefined, [`--inspect-port=${port}`]);
    const { code, message } = await refusal(attach(target.pid, recorder()));
    expect(code).toBe('EADDRINUSE');
    expect(message).toContain(`port ${port}, which process ${process.pid} `);
    server.close();
    expect((await target.call('declaration', 1)).ok).toBe(1);
  });

  test('a process that is being traced', async () => {
    const target = await start('kinds.cjs');
    const { session } = await openSession(target.pid);
    expect(await refusal(attach(target.pid, recorder()))).toMatchObject({ code: 'EBUSY' });
    const symbol = functionAround(await session.functions(), targetFile('kinds.cjs'), '/* declaration */');
    await session.attach([entryOf(symbol)], ARM);
    await target.call('declaration', 3);
    expect(await readCounts(session)).toMatchObject({ 0: 3 });
    await session.detach();
    const again = await openSession(target.pid);
    await again.session.detach();
  });

  test('a stop that was not allowed', async () => {
    const target = await start('kinds.cjs');
    const { session } = await openSession(target.pid);
    const symbol = functionAround(await session.functions(), targetFile('kinds.cjs'), '/* private */');
    const { code, hint } = await refusal(session.attach([entryOf(symbol)], { ...ARM, maxPauseMs: 0.5 }));
    expect(code).toBe('EMAXPAUSE');
    expect(hint).toMatch(/^--max-pause \d+ allows/);
    await session.detach();
  });
});
