import { builtinModules } from 'node:module';
import os from 'node:os';
import type { ProcessInfo } from '../target/session.ts';
import { version } from './version.ts';

type Row = readonly [name: string, value: string];

const yesNo = (value: boolean) => (value ? 'yes' : 'no');

/** What this machine can do. */
export function machineInfo(): string {
  const [cpu] = os.cpus();
  return section('Machine', [
    ['trapline', version()],
    ['node', `${process.version} (V8 ${process.versions.v8})`],
    ['system', `${os.type()} ${os.release()} ${process.arch}`],
    ['cpus', `${os.availableParallelism()}${cpu === undefined ? '' : ` x ${cpu.model.trim()}`}`],
    [
      'user',
      process.getuid === undefined
        ? 'unknown'
        : `${process.getuid()}${process.getuid() === 0 ? ' (root)' : ''}`,
    ],
    ['attach by PID', yesNo(process.platform !== 'win32')],
    ['shared WebAssembly memory', yesNo(hasSharedMemory())],
    ['inspector', yesNo(builtinModules.includes('inspector'))],
  ]);
}

/** What is known of a process once a session with it is open. */
export function processInfo(info: ProcessInfo): string {
  return section(`Process ${info.pid}`, [
    ['command', info.argv.join(' ')],
    ['folder', info.cwd],
    ['node', `${info.nodeVersion} (V8 ${info.v8Version})`],
    ['heap used', `${(info.heapUsedBytes / 2 ** 20).toFixed(1)} MB`],
    ['prepared (trapline/register)', yesNo(info.prepared)],
    ['worker threads, not traced', String(info.workers)],
  ]);
}

function section(title: string, rows: readonly Row[]): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return `${title}\n${rows.map(([name, value]) => `  ${`${name}:`.padEnd(width)} ${value}\n`).join('')}`;
}

function hasSharedMemory(): boolean {
  try {
    return (
      new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer instanceof SharedArrayBuffer
    );
  } catch {
    return false;
  }
}
