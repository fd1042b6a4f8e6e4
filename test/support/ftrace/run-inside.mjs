// Runs the kernel's ftrace selftests in the mount and pid namespaces that it is started in, each against a fresh simulated system:
//
//   node run-inside.mjs DIR TIMEOUT_S TEST...     paths below DIR/test.d
//
// Writes a line of JSON for each: { test, result, log }.

import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { mountTracefs } from '../../../dist/tracefs/fuse/index.js';
import * as modules from '../../../dist/tracefs/index.js';
import { WatchedFiles } from './files.mjs';
import { FtraceSystem } from './system.mjs';

const TRACING = '/sys/kernel/tracing';
/** Where ftracetest makes its folders. */
const TMP = '/tmp';
const FIRST_PID = 10_000;
const PIDS_A_TEST = 5000;
const [, , dir, seconds, ...tests] = process.argv;
const scratch = mkdtempSync(path.join(tmpdir(), 'trapline-ftrace-'));
const send = (result) => process.stdout.write(`${JSON.stringify(result)}\n`);

/** A file of ours in the place of one of the machine's: the tests read it, and must not change the real one. */
function standIn(target, text, name = path.basename(target)) {
  const file = path.join(scratch, name);
  writeFileSync(file, text);
  const { status, stderr } = spawnSync('mount', ['--bind', file, target], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cannot cover ${target}: ${stderr.trim()}`);
  return file;
}

/** A null device of the tests' own: what they write to it is seen, and nobody else's. */
function ownNullDevice() {
  const file = path.join(scratch, 'null');
  spawnSync('mknod', ['-m', '666', file, 'c', '1', '3']);
  spawnSync('mount', ['--bind', file, '/dev/null']);
  return file;
}

/** Tests look for lines by pids: large ones are not parts of other numbers. */
function choosePids(test) {
  try {
    writeFileSync('/proc/sys/kernel/ns_last_pid', String(FIRST_PID + test * PIDS_A_TEST));
  } catch {
    // Older kernels let nobody choose.
  }
}

/** CPUs are taken away and brought back in files of ours. */
function standInForCpus() {
  const cpus = '/sys/devices/system/cpu';
  for (const name of readdirSync(cpus)) {
    const online = path.join(cpus, name, 'online');
    if (/^cpu\d+$/.test(name) && existsSync(online)) standIn(online, '1\n', `${name}-online`);
  }
}

/** Commands of ours in front of the machine's: modules of its kernel are not to be loaded. */
function offerCommands() {
  const bin = path.join(scratch, 'bin');
  mkdirSync(bin);
  const offer = (name, text) => writeFileSync(path.join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  for (const name of ['modprobe', 'insmod', 'rmmod']) offer(name, 'exit 1');
  // Tests let ping sleep and wake, no more.
  offer('ping', 'for n in 1 2 3; do sleep 0.05; done');
  process.env.PATH = `${bin}:${process.env.PATH ?? ''}`;
}

function run(test, logs) {
  return new Promise((resolve) => {
    const args = ['./ftracetest', '-l', logs, path.join(dir, 'test.d', test)];
    const child = spawn('sh', args, { cwd: dir, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (output += text));
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {}
    }, Number(seconds) * 1000);
    child.once('close', () => {
      clearTimeout(timer);
      const results = [...output.matchAll(/\[(PASS|FAIL|UNRESOLVED|UNTESTED|UNSUPPORTED|XFAIL)\]/g)].map(
        ([, word]) => word,
      );
      const worst = late ? 'TIMEOUT' : (results.find((word) => word !== 'PASS') ?? results[0] ?? 'NONE');
      resolve({ result: worst, output });
    });
  });
}

/** The end of what a failed test wrote: the commands as the shell traces them. */
function logOf(logs) {
  const names = readdirSync(logs).filter((name) => name.includes('-log.'));
  return names
    .map((name) => readFileSync(path.join(logs, name), 'latin1').split('\n').slice(-40).join('\n'))
    .join('\n');
}

try {
  standIn('/proc/kallsyms', new FtraceSystem(modules).kallsyms());
  standIn('/proc/sys/kernel/sched_rt_runtime_us', '950000\n');
  standIn('/proc/version', 'Linux version 6.12.0-simulated (builder@simulated) (cc) #1 SMP\n');
  const interrupts = standIn('/proc/interrupts', '');
  standInForCpus();
  offerCommands();
  const nullDevice = ownNullDevice();
  for (const [number, test] of tests.entries()) {
    choosePids(number % 20);
    const defects = [];
    const began = Date.now();
    const system = new FtraceSystem(modules);
    const files = new WatchedFiles(
      { '/dev/null': nullDevice, '/proc/interrupts': interrupts },
      TMP,
      (...what) => system.touched(...what),
    );
    const mount = await mountTracefs(system.fs, TRACING, {
      request: (pid, opcode, file) => system.request(pid, opcode, file),
      // What inotify has to tell comes first.
      flush: () => new Promise(setImmediate),
      defect: (error) => defects.push(error?.stack ?? String(error)),
    });
    system.start();
    const logs = mkdtempSync(path.join(scratch, 'logs-'));
    const { result, output } = await run(test, `${logs}/`);
    system.stop();
    files.close();
    await mount.unmount();
    const passed = result === 'PASS' || result === 'XFAIL';
    send({
      test,
      result,
      seconds: (Date.now() - began) / 1000,
      defects,
      log: passed ? '' : logOf(logs) || output,
    });
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(0);
