// A real process, traced as the command line traces it: the script is compiled for its functions, verified, made WebAssembly,
// loaded and armed through a session. What the maps hold is read while the process runs.

import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
export const node = process.env.TRAPLINE_NODE ?? process.execPath;
export const dist = (name) => pathToFileURL(path.join(root, 'dist', name)).href;
export const registerArgs = ['--import', dist('register/index.js')];
export const cli = path.join(root, 'dist/cli/main.js');

const { attach } = await import(dist('target/attach.js'));
const { parseText } = await import(dist('cli/pipeline.js'));
const { Tracee } = await import(dist('cli/tracee.js'));
const { printedMap } = await import(dist('output/index.js'));

const alive = new Set();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

/** Starts a file that answers each message with one. `ask(message)` gives the answer. */
export async function startTarget(file, { execArgv = [], env = {} } = {}) {
  const args = [
    ...(execArgv.some((arg) => arg.startsWith('--inspect')) ? [] : ['--inspect-port=0']),
    ...execArgv,
  ];
  const child = spawn(node, [...args, file], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    env: { ...process.env, ...env },
  });
  alive.add(child);
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const answer = () =>
    new Promise((resolve, reject) => {
      const onExit = (code, signal) => reject(new Error(`the target ended (${code ?? signal}): ${stderr}`));
      child.once('exit', onExit);
      child.once('message', (message) => {
        child.off('exit', onExit);
        resolve(message);
      });
    });
  const ready = await answer();
  return {
    pid: child.pid,
    ready,
    stderr: () => stderr,
    ask(message) {
      const answered = answer();
      child.send(message);
      return answered;
    },
    async stop() {
      alive.delete(child);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** The real command, once it has said so on its standard error; `stop()` is Ctrl-C. */
export function startCommand(args, said) {
  const child = spawn(node, [cli, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let notes = '';
  const closed = new Promise((resolve) => child.once('close', resolve));
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`trapline ended with ${code}: ${notes}`)));
    child.stderr.on('data', (data) => {
      notes += data;
      if (!said.test(notes)) return;
      resolve({
        async stop() {
          child.kill('SIGINT');
          return { code: await closed, notes };
        },
      });
    });
  });
}

/** Attaches and arms; `counts(name)` reads a map: its entries as [key texts joined, number]. */
export async function startTrace(pid, script, { way = 'auto', maxPauseMs = 10_000, maxactive = 0 } = {}) {
  const notices = { lost: 0, warnings: [], gone: undefined, armed: [] };
  let tracee;
  const session = await attach(pid, {
    onRecord: (record) => tracee?.decode(record),
    onArmed: (report) => notices.armed.push(report),
    onLost: (count) => {
      notices.lost += count;
    },
    onWarning: (message) => notices.warnings.push(message),
    onGone: (reason) => {
      notices.gone = reason;
    },
  });
  try {
    tracee = await Tracee.prepare(session, parseText({ script, file: 'bench' }), { way, maxPauseMs });
    await tracee.load();
    await tracee.runSpecial('BEGIN');
    const reports = await tracee.attach({ way, maxPauseMs, maxactive }, true);
    return {
      session,
      notices,
      reports,
      async map(name) {
        const index = tracee.script.maps.findIndex((map) => map.name === name);
        const map = tracee.script.maps[index];
        if (map === undefined) throw new Error(`the script has no map ${name}`);
        const entries = await tracee.readMap(index, false);
        return printedMap(map, entries, { top: 0, div: 0 }).entries;
      },
      /** The sum of all numbers, or of all buckets, of a map. */
      async total(name) {
        let sum = 0n;
        for (const { value } of await this.map(name)) {
          if (value.kind === 'int') sum += value.value;
          else if (value.kind === 'hist') for (const { count } of value.buckets) sum += count;
          else if (value.kind === 'stats') sum += value.count;
          else throw new Error(`no number: ${value.kind}`);
        }
        return Number(sum);
      },
      async missed() {
        return (await session.siteStats()).reduce((sum, { nmissed }) => sum + nmissed, 0);
      },
      detach: () => session.detach(),
    };
  } catch (error) {
    await session.detach().catch(() => {});
    throw error;
  }
}
