import { TraplineError } from '../../errors.ts';

const CPU_MAX = 1 << 16;

/** `0,2-3` as numbers; `:` separates too. EUSAGE. */
export function parseCpuList(text: string): ReadonlySet<number> {
  const cpus = new Set<number>();
  for (const part of text.split(/[,:]/)) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
    if (match === null || last < first || last >= CPU_MAX)
      throw new TraplineError('EUSAGE', `--cpu: ${part} is no CPU and no range of them`);
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return cpus;
}
