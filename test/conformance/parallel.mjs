// The kernel's lib/test_bpf.c has programs of 200,000 instructions: its vectors are run by as many threads as there are processors.

import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { runTestBpf } from './suites.mjs';

const MAX_THREADS = 4;

/** What the thread `thread` of `threads` runs. Tail-call tests call each other: the first thread has them all. */
const share =
  (thread, threads) =>
  ({ i, tail_call: tailCall }) =>
    (tailCall === undefined ? i % threads : 0) === thread;

/** `runTestBpf` for a module of the machine that other threads import from `entry`. `report` is called in the order of the tests. */
export function runTestBpfInThreads(entry) {
  return async (bpf, folder, report) => {
    const threads = Math.min(MAX_THREADS, availableParallelism());
    if (threads === 1) return runTestBpf(bpf, folder, report);
    const shares = await Promise.all(
      Array.from({ length: threads }, (_, thread) => inThread({ entry, folder, thread, threads })),
    );
    const total = { passed: 0, failed: 0, skipped: 0 };
    for (const { counts } of shares) for (const key of Object.keys(total)) total[key] += counts[key];
    // Names begin with the vector's number, those of tail calls have none.
    const order = ([name]) => (/^\d/.test(name) ? Number.parseInt(name, 10) : Number.MAX_SAFE_INTEGER);
    const reports = shares.flatMap((one) => one.reports);
    for (const told of reports.sort((a, b) => order(a) - order(b))) report(...told);
    return total;
  };
}

function inThread(data) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: data });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`a thread of the suite ended with code ${code}`)));
  });
}

if (!isMainThread && workerData?.threads !== undefined) {
  const { entry, folder, thread, threads } = workerData;
  const { pathToFileURL } = await import('node:url');
  const reports = [];
  const counts = runTestBpf(
    await import(pathToFileURL(entry)),
    folder,
    (...told) => reports.push(told),
    share(thread, threads),
  );
  parentPort.postMessage({ counts, reports });
}
