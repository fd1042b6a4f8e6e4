// A C program with one function, for bpftrace's uprobe: compiled here, started here, and nothing else is traced.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const TEXT = `
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
struct request { const char *url; };
__attribute__((noinline)) long handle(struct request *r, long n) { __asm__ volatile(""); return n + r->url[0]; }
int main(void) {
  struct request r[4] = {{"/item/100000000000/a"}, {"/item/200000000000/b"}, {"/item/300000000000/c"}, {"/item/400000000000/d"}};
  char line[64];
  setbuf(stdout, NULL);
  puts("ready");
  while (fgets(line, sizeof line, stdin)) {
    long calls = atol(line), sum = 0;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < calls; i++) sum += handle(&r[i & 3], i);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%ld %ld\\n", (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec, sum);
  }
}
`;

/** Why bpftrace cannot be compared with here, or undefined. */
export function noBpftrace() {
  if (process.platform !== 'linux') return 'not Linux';
  if (process.getuid() !== 0) return 'not root';
  const found = spawnSync('bpftrace', ['--version'], { encoding: 'utf8' });
  if (found.status !== 0) return 'bpftrace is not installed';
  if (spawnSync('cc', ['--version']).status !== 0) return 'no C compiler';
  return undefined;
}

/** ns a call in each round, unprobed and with `uprobe:handle { ACTION }`, and what bpftrace printed. */
export async function uprobeRounds(action, rounds, calls) {
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
  const binary = path.join(folder, 'handle');
  writeFileSync(`${binary}.c`, TEXT);
  const built = spawnSync('cc', ['-O2', '-o', binary, `${binary}.c`], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr);
  const target = spawn(binary, { stdio: ['pipe', 'pipe', 'inherit'] });
  const answer = () => new Promise((resolve) => target.stdout.once('data', (data) => resolve(String(data))));
  try {
    await answer();
    const run = async (n, each) => {
      const ns = [];
      for (let i = 0; i < n; i++) {
        const answered = answer();
        target.stdin.write(`${each}\n`);
        ns.push(Number((await answered).split(' ')[0]) / each);
      }
      return ns;
    };
    const plain = await run(rounds, calls * 10);
    const tracer = spawn(
      'bpftrace',
      ['-p', String(target.pid), '-e', `uprobe:${binary}:handle { ${action} }`],
      {
        env: { ...process.env, BPFTRACE_STRLEN: '64' },
      },
    );
    let out = '';
    let notes = '';
    tracer.stdout.on('data', (data) => {
      out += data;
    });
    tracer.stderr.on('data', (data) => {
      notes += data;
    });
    const closed = new Promise((resolve) => tracer.once('close', resolve));
    for (let i = 0; i < 100 && !out.includes('Attaching'); i++) await sleep(100);
    // It says so before it does so: until a call takes microseconds.
    let warm = 0;
    for (let i = 0; ; i++) {
      if (i === 100 || tracer.exitCode !== null) throw new Error(`bpftrace did not attach: ${notes}`);
      const [ns] = await run(1, 4);
      warm += 4;
      if (ns > 1500) break;
      await sleep(100);
    }
    const probed = await run(rounds, calls);
    tracer.kill('SIGINT');
    await closed;
    return { plain, probed, out, made: rounds * calls, warm };
  } finally {
    target.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}
