/**
 * The system's clocks, beside the one that Node reads: CLOCK_MONOTONIC, of which hits have their times. Perl, by clock_gettime(2) between two
 * readings of that one, tells how far the others are from it.
 */

import { spawnSync } from 'node:child_process';

/** Clocks of `trace_clock` that are CLOCK_MONOTONIC here. */
const MONOTONIC: ReadonlySet<string> = new Set(['local', 'global', 'perf', 'mono']);
/** jiffies_64_to_clock_t(): what user space counts jiffies in (USER_HZ). */
const NS_PER_CLOCK_TICK = 10_000_000n;
/** clock_gettime(2) by the processor's architecture. */
const CLOCK_GETTIME: Readonly<Record<string, number>> = {
  x64: 228,
  arm64: 113,
  riscv64: 113,
  ppc64: 246,
  s390x: 260,
};
/** Numbers of clock_gettime(2), in the order in which they are asked for (include/uapi/linux/time.h). */
const MEASURED: ReadonlyMap<string, number> = new Map([
  ['mono_raw', 4],
  ['boot', 7],
  ['tai', 11],
]);
/** A measurement is good for so long. */
const MEASURE_NS = 1_000_000_000n;
const MEASURE_TIMEOUT_MS = 5000;
/** Clocks are set, and machines sleep, for longer than this; what is less is the measurement's. */
const STEP_NS = 1_000_000n;

/** Arguments: the number of clock_gettime(2), those of clocks. A line for each: CLOCK_MONOTONIC and the clock, of the closest of 25 readings. */
const MEASURE = String.raw`
my $nr = shift;
sub now { my $t = "\0" x 16; syscall($nr + 0, $_[0] + 0, $t) and exit 1; my ($s, $ns) = unpack 'q2', $t; $s * 1000000000 + $ns }
for my $clock (@ARGV) {
  my @best;
  for (1 .. 25) {
    my ($before, $value, $after) = (now(1), now($clock), now(1));
    @best = ($before, $value, $after - $before) if !@best || $after - $before < $best[2];
  }
  printf "%d %d\n", $best[0] + $best[2] / 2, $best[1];
}
`;

interface Sample {
  /** CLOCK_MONOTONIC. */
  readonly ts: bigint;
  readonly value: bigint;
}

/** A clock by its last two samples. Its values never go back. */
class MeasuredClock {
  /** It runs at a pace of its own; others are set now and then and run with CLOCK_MONOTONIC between. */
  readonly #ownPace: boolean;
  #before: Sample | undefined;
  #latest: Sample | undefined;
  #last: Sample = { ts: 0n, value: 0n };

  constructor(ownPace: boolean) {
    this.#ownPace = ownPace;
  }

  add(sample: Sample): void {
    const latest = this.#latest;
    const offset = sample.value - sample.ts;
    const known = latest === undefined ? 0n : latest.value - latest.ts;
    const same = !this.#ownPace && offset - known < STEP_NS && known - offset < STEP_NS;
    this.#before = latest;
    this.#latest = same ? { ts: sample.ts, value: sample.ts + known } : sample;
  }

  at(ts: bigint): bigint {
    const value = this.#ownPace ? this.#paced(ts) : this.#set(ts);
    if (ts >= this.#last.ts) this.#last = { ts, value: value > this.#last.value ? value : this.#last.value };
    return ts >= this.#last.ts ? this.#last.value : value;
  }

  /** The line through both samples. Both clocks began at 0 with the machine, so one sample tells their pace, too. */
  #paced(ts: bigint): bigint {
    const from = this.#before ?? { ts: 0n, value: 0n };
    const { ts: at, value } = this.#latest as Sample;
    return value + ((ts - at) * (value - from.value)) / (at - from.ts);
  }

  #set(ts: bigint): bigint {
    const latest = this.#latest as Sample;
    const from = ts < latest.ts ? (this.#before ?? latest) : latest;
    return ts + from.value - from.ts;
  }
}

/**
 * `local`, `global`, `perf` and `mono` are CLOCK_MONOTONIC, `uptime` is the same in hundredths of a second. `mono_raw`, `boot` and `tai` are
 * measured when they are first asked for, and once a second while they are used: that takes some 10 ms each time.
 */
export class SystemClocks {
  readonly #clocks = new Map<string, MeasuredClock>();
  #measured: bigint | undefined;
  #obstacle: string | undefined;

  /** The clock now; undefined where it cannot be read. */
  now(clock: string): bigint | undefined {
    return this.at(clock, process.hrtime.bigint());
  }

  /** What the clock showed at a time of CLOCK_MONOTONIC. */
  at(clock: string, ts: bigint): bigint | undefined {
    if (MONOTONIC.has(clock)) return ts;
    if (clock === 'uptime') return ts / NS_PER_CLOCK_TICK;
    if (!MEASURED.has(clock)) return undefined;
    if (this.#measured === undefined || ts - this.#measured > MEASURE_NS) this.#measure();
    return this.#clocks.get(clock)?.at(ts);
  }

  /** Why a clock that Linux has cannot be read here. */
  obstacle(clock: string): string | undefined {
    if (clock === 'x86-tsc') return 'the time stamp counter is read by machine code only';
    return MEASURED.has(clock) ? this.#obstacle : undefined;
  }

  #measure(): void {
    if (this.#obstacle !== undefined) return;
    const number = CLOCK_GETTIME[process.arch];
    if (number === undefined) {
      this.#obstacle = `reading it is not known on ${process.arch}`;
      return;
    }
    const args = ['-e', MEASURE, '--', ...[number, ...MEASURED.values()].map(String)];
    const { error, status, stdout } = spawnSync('perl', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: MEASURE_TIMEOUT_MS,
    });
    const samples = (stdout ?? '').trim().split('\n').map(sampleOf);
    if (
      error !== undefined ||
      status !== 0 ||
      samples.length !== MEASURED.size ||
      samples.includes(undefined)
    ) {
      // What was measured before goes on to be used.
      if (this.#measured === undefined)
        this.#obstacle = `perl is needed to read it: ${error?.message ?? `it ended with ${status}`}`;
      this.#measured = process.hrtime.bigint();
      return;
    }
    [...MEASURED.keys()].forEach((name, n) => {
      const clock = this.#clocks.get(name) ?? new MeasuredClock(name === 'mono_raw');
      this.#clocks.set(name, clock);
      clock.add(samples[n] as Sample);
    });
    this.#measured = samples[0]?.ts;
  }
}

function sampleOf(line: string): Sample | undefined {
  const [ts, value] = line.split(' ');
  return ts && value && /^\d+ \d+$/.test(line) ? { ts: BigInt(ts), value: BigInt(value) } : undefined;
}
