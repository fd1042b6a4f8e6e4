/**
 * Parses many scripts in threads. Each begins cold, and together they take about half as much processor time again as one
 * thread that has warmed up: few texts are parsed here, and so are many on a machine that is busy already.
 */
import { availableParallelism, loadavg } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { scanFunctions } from './symbols.ts';
import { type PackedSymbols, packSymbols } from './symbols-pack.ts';
import type { ScriptInfo } from './types.ts';

export interface PoolText {
  readonly source: string;
  readonly isModule: boolean;
}
export type PoolBatch = readonly PoolText[];
export type PoolReply = readonly PackedSymbols[];

/** UTF-16 units from which on threads are worth starting, what each is to have at least, and what it gets at once. */
const WORTH = 24 << 20;
const SHARE = 12 << 20;
const BATCH = 1 << 18;
const MOST_THREADS = 4;

const FILE = new URL(`./symbols-worker${extname(new URL(import.meta.url).pathname)}`, import.meta.url);

/** How many threads texts of so many characters together are parsed in; 0 is this one. */
export function threadsFor(length: number, cores = idleCores()): number {
  if (length < WORTH || cores < 2) return 0;
  return Math.min(MOST_THREADS, cores, Math.ceil(length / SHARE));
}

const idleCores = (): number => Math.round(availableParallelism() - (loadavg()[0] ?? 0));

/** Symbols of each text, in the same order. Where threads cannot be had, this one parses. */
export async function scanInThreads(texts: readonly PoolText[], threads?: number): Promise<PackedSymbols[]> {
  const results = new Array<PackedSymbols | undefined>(texts.length);
  const length = texts.reduce((sum, { source }) => sum + source.length, 0);
  const count = threads ?? threadsFor(length);
  if (count > 0) {
    const batches = batchesOf(texts);
    await Promise.all(
      Array.from({ length: Math.min(count, batches.length) }, () => work(texts, batches, results)),
    );
  }
  return texts.map((text, i) => results[i] ?? scanHere(text));
}

const NOWHERE = { scriptId: '', url: '', length: 0, sourceMapURL: '', executionContextId: 0, hash: '' };

const scanHere = ({ source, isModule }: PoolText): PackedSymbols =>
  packSymbols(scanFunctions({ ...NOWHERE, isModule } satisfies ScriptInfo, source, 0n));

/** Indexes of texts, the largest first, so that no thread is left with one at the end. */
function batchesOf(texts: readonly PoolText[]): number[][] {
  const order = texts.map((_, i) => i).sort((a, b) => texts[b]!.source.length - texts[a]!.source.length);
  const batches: number[][] = [];
  let room = 0;
  for (const index of order) {
    const { length } = texts[index]!.source;
    if (batches.length === 0 || room < length) {
      batches.push([]);
      room = BATCH;
    }
    batches.at(-1)!.push(index);
    room -= length;
  }
  return batches;
}

/** One thread, until nothing is left. What it had when it failed is left out. */
function work(
  texts: readonly PoolText[],
  batches: number[][],
  results: (PackedSymbols | undefined)[],
): Promise<void> {
  return new Promise((resolve) => {
    let worker: Worker;
    try {
      worker = new Worker(FILE, { stdin: false, execArgv: [], env: {} });
    } catch {
      resolve();
      return;
    }
    let current: number[] | undefined;
    const end = (): void => {
      void worker.terminate();
      resolve();
    };
    const next = (): void => {
      current = batches.shift();
      if (current === undefined) {
        end();
        return;
      }
      const batch: PoolBatch = current.map((index) => texts[index]!);
      worker.postMessage(batch);
    };
    worker.on('message', (reply: PoolReply) => {
      for (const [i, index] of (current ?? []).entries()) results[index] = reply[i];
      next();
    });
    worker.on('error', end);
    worker.on('exit', end);
    next();
  });
}
