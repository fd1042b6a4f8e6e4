import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { emptySystem, processSystem } from '../../src/cli/tracefs-system.ts';
import { type Mount, mountObstacle, mountTracefs } from '../../src/tracefs/fuse/index.ts';

import { fixture, root, startService, stopAll } from '../e2e/support.ts';
import { unless } from '../support/skip.ts';

const obstacle = mountObstacle();
const run = promisify(execFile);

describe('a mounted tracing folder', unless(obstacle), () => {
  let dir: string;
  let mount: Mount;
  const defects: unknown[] = [];

  // The shell enters it: a child that node makes would before this thread, which waits for that, can answer.
  const inside = (script: string): string[] => ['-c', `cd ${dir} && { ${script}\n}`];
  /** Runs a shell in the folder. What the test process itself asks of the mount it would have to answer. */
  const sh = async (script: string): Promise<string> => (await run('sh', inside(script))).stdout;
  const fails = (script: string): Promise<string> =>
    run('sh', inside(script)).then(
      () => 'nothing failed',
      (error: { stderr: string }) => error.stderr,
    );

  beforeEach(async () => {
    dir = mkdtempSync(path.join(tmpdir(), 'trapline-mount-'));
    defects.length = 0;
    const { fs, request } = emptySystem();
    mount = await mountTracefs(fs, dir, { request: request!, defect: (error) => defects.push(error) });
  });
  afterEach(async () => {
    await mount.unmount();
    rmdirSync(dir);
    expect(defects).toEqual([]);
  });

  test('echo and cat', async () => {
    expect(await sh('echo hello > trace_marker; cat trace')).toMatch(/ +sh-\d+ +\[000\] .*: hello\n$/);
    expect(await sh('> trace; grep -c hello trace || true')).toBe('0\n');
    expect(await sh('echo 0 > tracing_on; cat tracing_on; echo 1 >> tracing_on; cat tracing_on')).toBe(
      '0\n1\n',
    );
    expect(await sh('stat -c %a trace_marker README events; stat -f -c %l .')).toBe('220\n440\n755\n255\n');
  });

  test('errors of the files are those of the commands', async () => {
    expect(await fails('echo nonsense > current_tracer')).toMatch(/Invalid argument|I\/O error/);
    expect(await fails('echo > nothing')).toMatch(/Permission denied|cannot create|ermission/);
    expect(await fails('rm trace')).toMatch(/not permitted/);
    expect(await fails('mkdir instances/a/b')).toMatch(/No such file/);
    expect(await fails('mkdir elsewhere')).toMatch(/not permitted/);
    expect(await fails('cat trace_marker')).toMatch(/Invalid argument/);
  });

  test('instances are folders, and busy while a file is open', async () => {
    expect(
      await sh('mkdir instances/one; echo x > instances/one/trace_marker; tail -n 1 instances/one/trace'),
    ).toMatch(/: x\n$/);
    expect(await fails('exec 3< instances/one/trace; rmdir instances/one')).toMatch(/busy/);
    expect(await sh('rmdir instances/one; ls instances')).toBe('');
  });

  test('a reader of trace_pipe waits, is fed, and can be killed', async () => {
    const reader = spawn('cat', [path.join(dir, 'trace_pipe')]);
    let read = '';
    const fed = new Promise<void>((resolve) =>
      reader.stdout.setEncoding('utf8').on('data', (text: string) => {
        read += text;
        if (read.includes('second')) resolve();
      }),
    );
    await sh('echo first > trace_marker; sleep 0.1; echo second > trace_marker');
    await fed;
    expect(read).toMatch(/first\n.*second\n/);
    const closed = new Promise((resolve) => reader.once('close', resolve));
    reader.kill('SIGKILL');
    await closed;
    // the pipe is free again, and has nothing
    expect(await fails('dd if=trace_pipe iflag=nonblock count=1')).toMatch(
      /Resource temporarily unavailable/,
    );
  });

  test('everything can be read at once, at odd offsets, and written without end', async () => {
    await sh('echo mark > trace_marker');
    const all = "find . -type f ! -name '*pipe*' ! -name '*_raw' ! -name free_buffer";
    await sh(`${all} | xargs -P 4 -n 20 cat > /dev/null 2>&1; true`);
    await sh(`for n in 1 2 3 4; do (${all} | xargs cat > /dev/null 2>&1; true) & done; wait`);
    expect(await sh('dd if=README bs=7 skip=3 count=5 2>/dev/null')).toBe(
      await sh('cat README | dd bs=7 skip=3 count=5 iflag=fullblock 2>/dev/null'),
    );
    expect(await sh('dd if=trace bs=1 skip=100000000 count=9 2>/dev/null')).toBe('');
    await fails('head -c 3000000 /dev/zero > trace_options');
    await sh('head -c 3000000 /dev/zero | tr "\\0" x > trace_marker 2>/dev/null; true');
    expect(await sh('cat tracing_on')).toBe('1\n');
  });

  test('a mount that is in use is detached', async () => {
    const reader = spawn('cat', [path.join(dir, 'trace_pipe')], { stdio: 'ignore' });
    const closed = new Promise((resolve) => reader.once('close', resolve));
    await sh('cat tracing_on');
    await mount.unmount();
    await closed;
    await expect(run('cat', [path.join(dir, 'trace')])).rejects.toThrow(/No such file/);
    mount = await mountTracefs(emptySystem().fs, dir, {});
    await expect(mountTracefs(emptySystem().fs, dir, {})).rejects.toMatchObject({ code: 'EBUSY' });
  });
});

test('a folder that is none is refused', async () => {
  if (obstacle !== undefined)
    return await expect(mountTracefs(emptySystem().fs, '/')).rejects.toMatchObject({ code: 'ENOTSUP' });
  await expect(mountTracefs(emptySystem().fs, '/nowhere/at/all')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(mountTracefs(emptySystem().fs, import.meta.filename)).rejects.toMatchObject({
    code: 'ENOTDIR',
  });
});

describe('the mounted folder of a process', unless(obstacle), () => {
  test('events come and go with the code that defines them; functions are listed when they are named', async () => {
    const service = await startService({ file: fixture('events.cjs') });
    const dir = mkdtempSync(path.join(tmpdir(), 'trapline-mount-'));
    const { fs, close, ...more } = await processSystem(service.pid, {
      cpus: 1,
      maxPauseMs: 1,
      warning: () => undefined,
    });
    const mount = await mountTracefs(fs, dir, more);
    const sh = async (script: string): Promise<string> =>
      (await run('sh', ['-c', `cd ${dir} && { ${script}\n}`])).stdout;
    const library = pathToFileURL(path.join(root, 'dist/index.js')).href;
    try {
      expect(await sh('ls events/http | grep -c client_')).toBe('4\n');
      const until = async (wanted: string): Promise<void> => {
        while ((await sh('ls events/shop 2>&1 || true')).includes('checkout') !== (wanted === 'there'))
          await new Promise((resolve) => setTimeout(resolve, 50));
      };
      await sh("echo 't:mine/seen shop:checkout' > dynamic_events; echo 1 > events/mine/seen/enable");
      await service.ask('define', { library });
      await until('there');
      const seen = async (): Promise<number> => Number(await sh('grep -c seen: trace || true'));
      // the event is listed, its probe begins behind that
      while ((await seen()) === 0) await service.ask('checkout', { times: 1 });
      const before = await seen();
      await service.ask('checkout', { times: 2 });
      expect(await seen()).toBe(before + 2);
      await sh('echo 0 > events/mine/seen/enable; > dynamic_events');
      await service.ask('undefine', { library });
      await until('gone');
      expect(
        await sh("(echo 'p:x events.cjs:after' > dynamic_events) 2> /dev/null || tail -n 3 error_log"),
      ).toMatch(/looking for functions needs V8's debugger.*\n/);
    } finally {
      await mount.unmount();
      await close();
      rmdirSync(dir);
      await stopAll();
    }
  });
});
